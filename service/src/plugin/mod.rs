//! The plugins of this process: compiles components, asks them which tasks they run, and keeps
//! compiled versions ready for attempts.
//!
//! Compiling is done by another process (`compile`), which leaves the machine code in a folder
//! (`cache`). Two queues of one permit each separate components that are being installed from those
//! that attempts wait for, so that a slow one of either kind does not hold up the other.

mod cache;
mod compile;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use nightshift_sandbox::{
    Hanging, Plugin, Reach, Sandbox, Settings as SandboxSettings, TaskInfo, Unfit,
};
use sha2::Digest as _;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use url::Url;

use self::{cache::Cache, compile::Job};
pub use self::{
    cache::{folder as cache_folder, is_open as is_open_cache},
    compile::{Bounds, main as compile_main},
};

use crate::domain::{
    Invalid,
    grants::HttpHost,
    names::{PluginName, TaskPath},
    plugin::{Description, Digest, PluginTask},
    retry,
    task::{Options, max_attempts},
};

/// How plugins are compiled and run in this process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where machine code is kept for the next start. `None`: in the user's cache folder.
    pub cache: Option<PathBuf>,
    /// The program that compiles when it is called as `PROGRAM compile-plugin CACHE SECONDS MIB`.
    /// It is this program itself.
    pub compiler: PathBuf,
    pub bounds: Bounds,
    /// Threads on which plugins run.
    pub threads: usize,
    /// How many runs there may be at once, of all plugins together.
    pub runs_max: u32,
    /// MiB of memory that all these runs together may use.
    pub memory_mib: u32,
}

/// A component that was found to be a plugin.
#[derive(Debug)]
pub struct Inspected {
    pub digest: Digest,
    pub description: Description,
    pub plugin: Plugin,
}

/// Why a component is refused.
#[derive(Debug)]
pub enum Refusal {
    /// It is not a valid plugin.
    Unfit(String),
    /// It could not be examined.
    Broken(anyhow::Error),
}

impl From<Unfit> for Refusal {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit.to_string())
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<Refusal> for anyhow::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unfit(reason) => Self::msg(reason),
            Refusal::Broken(error) => error,
        }
    }
}

/// Reads the components of installed plugins from where they are stored.
#[async_trait]
pub trait Components: Send + Sync {
    /// Returns the component with this digest, or `None` if it is not stored any more.
    async fn component(&self, digest: Digest) -> anyhow::Result<Option<Bytes>>;
}

/// The hosts to which a run may send requests.
pub struct Hosts(pub Vec<HttpHost>);

impl Reach for Hosts {
    fn may_reach(&self, url: &Url) -> bool {
        self.0.iter().any(|host| host.allows(url))
    }
}

/// The plugins of this process. A service without plugins pays nothing for them, since the sandbox
/// is made only when the first plugin is needed.
pub struct Plugins {
    settings: Settings,
    place: OnceCell<Place>,
    /// The version of each plugin that is ready. An attempt holds its own reference to the version
    /// that it runs, so replacing the version here does not affect it.
    ready: Mutex<HashMap<PluginName, Arc<Slot>>>,
    /// A permit for each component that is being installed.
    installing: Arc<Semaphore>,
    /// At most one component that is being installed, and one that attempts need, is compiled at a
    /// time. With two semaphores, neither kind waits for the other.
    inspecting: Semaphore,
    compiling: Semaphore,
}

/// How many components may be in the process of being installed. They are large, and compiling may
/// take minutes.
const INSTALLING_MAX: usize = 3;

struct Place {
    sandbox: Arc<Sandbox>,
    cache: Cache,
}

type Slot = tokio::sync::Mutex<Option<(Digest, Plugin)>>;

impl Plugins {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            place: OnceCell::new(),
            ready: Mutex::default(),
            installing: Arc::new(Semaphore::new(INSTALLING_MAX)),
            inspecting: Semaphore::new(1),
            compiling: Semaphore::new(1),
        }
    }

    /// A permit to send a component for installation. `None` if too many are being installed.
    pub fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.installing).try_acquire_owned().ok()
    }

    /// Compiles a component and asks it which tasks it runs.
    pub async fn inspect(&self, component: &Bytes) -> Result<Inspected, Refusal> {
        let digest = digest(component);
        let plugin = self.load(component, &self.inspecting).await?;
        let described = self.place().await?.sandbox.describe(&plugin).await?;
        let description = description(described).map_err(|invalid| {
            Refusal::Unfit(format!("describe() says what cannot be: {invalid}"))
        })?;
        Ok(Inspected { digest, description, plugin })
    }

    /// Returns a version of an installed plugin, ready to run.
    ///
    /// The work is done in a task of its own, which goes on if the caller drops this future.
    /// Otherwise an attempt whose time is too short for compiling would start it again and again
    /// without ever finishing it.
    pub async fn get(
        self: &Arc<Self>,
        name: &PluginName,
        digest: Digest,
        components: &Arc<dyn Components>,
    ) -> anyhow::Result<Plugin> {
        // The map is locked only to find the slot; a compilation locks its slot alone.
        let slot = Arc::clone(self.ready().entry(name.clone()).or_default());
        let (this, components) = (Arc::clone(self), Arc::clone(components));
        let getting = tokio::spawn(async move {
            // Attempts that need the same plugin wait here, so that it is compiled once.
            let mut slot = slot.lock().await;
            if let Some((_, plugin)) = slot.as_ref().filter(|(ready, _)| *ready == digest) {
                return Ok(plugin.clone());
            }
            let component = components.component(digest).await?;
            let component =
                component.with_context(|| format!("{digest} is not stored any more"))?;
            let plugin = this.load(&component, &this.compiling).await?;
            *slot = Some((digest, plugin.clone()));
            Ok(plugin)
        });
        getting.await.context("getting a plugin ready panicked")?
    }

    fn ready(&self) -> MutexGuard<'_, HashMap<PluginName, Arc<Slot>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a version that was just inspected and installed, unless another one is being made
    /// ready at this moment.
    pub fn keep(&self, name: &PluginName, digest: Digest, plugin: Plugin) {
        let slot = Arc::clone(self.ready().entry(name.clone()).or_default());
        if let Ok(mut slot) = slot.try_lock() {
            *slot = Some((digest, plugin));
        }
    }

    /// Drops the compiled version of a plugin that is no longer installed.
    pub fn forget(&self, name: &PluginName) {
        self.ready().remove(name);
    }

    pub async fn sandbox(&self) -> anyhow::Result<&Sandbox> {
        Ok(&self.place().await?.sandbox)
    }

    /// The operations of plugins that hang: plugins wait for them, and they do not end.
    pub fn hanging(&self) -> Hanging {
        self.place.get().map(|place| place.sandbox.hanging()).unwrap_or_default()
    }

    /// Compiles the component in another process, which takes almost no time if its machine code is
    /// in the cache, and loads the machine code. `line` is the semaphore in which it waits for its
    /// turn.
    async fn load(&self, component: &Bytes, line: &Semaphore) -> Result<Plugin, Refusal> {
        let place = self.place().await?;
        let turn = line.acquire().await.context("compiling has ended")?;
        let job = Job {
            program: &self.settings.compiler,
            cache: &place.cache.code(),
            bounds: self.settings.bounds,
        };
        job.compile(component).await?;
        // Loading reads machine code from the cache. The next component can be compiled meanwhile.
        drop(turn);
        let (sandbox, component) = (Arc::clone(&place.sandbox), component.clone());
        let loading = tokio::task::spawn_blocking(move || sandbox.load(&component));
        Ok(loading.await.context("loading a plugin panicked")??)
    }

    async fn place(&self) -> anyhow::Result<&Place> {
        self.place
            .get_or_try_init(|| async {
                let cache = Cache::open(self.settings.cache.as_deref())?;
                let settings = SandboxSettings {
                    cache: Some(cache.code()),
                    threads: self.settings.threads,
                    runs_max: self.settings.runs_max,
                    memory_mib: self.settings.memory_mib,
                };
                let sandbox = Sandbox::new(&settings)
                    .map_err(|error| anyhow::anyhow!("no sandbox can be made: {error:#}"))?;
                Ok(Place { sandbox: Arc::new(sandbox), cache })
            })
            .await
    }
}

fn digest(component: &Bytes) -> Digest {
    Digest(sha2::Sha256::digest(component).into())
}

/// The description of a plugin, if what it reports is valid.
fn description(described: Vec<TaskInfo>) -> Result<Description, Invalid> {
    let task = |info: TaskInfo| {
        let path: TaskPath = info.path.parse().map_err(|invalid: Invalid| {
            Invalid::new("task_path", format!("{:?} {}", info.path, invalid.reason))
        })?;
        let defaults = Options {
            timeout: info.timeout.map(|t| retry::timeout(t.as_secs_f64())).transpose()?,
            max_attempts: info.max_attempts.map(|n| max_attempts(n.into())).transpose()?,
            backoff: None,
        };
        let (summary, description) = (info.summary, info.description);
        PluginTask { path, summary, description, defaults }.checked()
    };
    Description::new(described.into_iter().map(task).collect::<Result<_, _>>()?)
}
