//! Plugins that this process has: compiles components, asks them for their tasks, and keeps
//! those ready that run.

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

/// How plugins are compiled and run here.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where machine code is kept for the next start; `None`: the user's cache folder.
    pub cache: Option<PathBuf>,
    /// A program that compiles when it is called as `PROGRAM compile-plugin CACHE SECONDS MIB`:
    /// this one.
    pub compiler: PathBuf,
    pub bounds: Bounds,
    /// Threads that plugins run on.
    pub threads: usize,
    /// Runs at once, of all plugins.
    pub runs_max: u32,
    /// MiB that they may have, all together.
    pub memory_mib: u32,
}

/// What a component turned out to be.
#[derive(Debug)]
pub struct Inspected {
    pub digest: Digest,
    pub description: Description,
    pub plugin: Plugin,
}

/// Why a component is not taken.
#[derive(Debug)]
pub enum Refusal {
    /// It cannot be a plugin.
    Unfit(String),
    /// It could not be tried.
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

/// Has the components of installed plugins.
#[async_trait]
pub trait Components: Send + Sync {
    async fn component(&self, digest: Digest) -> anyhow::Result<Option<Bytes>>;
}

/// The hosts that a run may send requests to.
pub struct Hosts(pub Vec<HttpHost>);

impl Reach for Hosts {
    fn may_reach(&self, url: &Url) -> bool {
        self.0.iter().any(|host| host.allows(url))
    }
}

/// The plugins of this process. Whoever has none pays nothing for them: the sandbox is made when
/// the first one comes.
pub struct Plugins {
    settings: Settings,
    place: OnceCell<Place>,
    /// The version of each that runs. Attempts hold what they run by themselves, so that putting
    /// another version here takes nothing from them.
    ready: Mutex<HashMap<PluginName, Arc<Slot>>>,
    /// Components that are being installed.
    installing: Arc<Semaphore>,
    /// Of those that are being installed and of those that attempts need, one each is compiled at a
    /// time, so that neither waits for the other.
    inspecting: Semaphore,
    compiling: Semaphore,
}

/// Components that may wait to be installed. They are large, and compiling may take minutes.
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

    /// The right to bring a component, if not too many others do.
    pub fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.installing).try_acquire_owned().ok()
    }

    /// Compiles a component and asks it for its tasks.
    pub async fn inspect(&self, component: &Bytes) -> Result<Inspected, Refusal> {
        let digest = digest(component);
        let plugin = self.load(component, &self.inspecting).await?;
        let described = self.place().await?.sandbox.describe(&plugin).await?;
        let description = description(described).map_err(|invalid| {
            Refusal::Unfit(format!("describe() says what cannot be: {invalid}"))
        })?;
        Ok(Inspected { digest, description, plugin })
    }

    /// An installed plugin's version, ready to run. Getting it ready goes on if nobody waits any
    /// more, so that an attempt that has no time for it does not have it begun anew by the next.
    pub async fn get(
        self: &Arc<Self>,
        name: &PluginName,
        digest: Digest,
        components: &Arc<dyn Components>,
    ) -> anyhow::Result<Plugin> {
        let slot = Arc::clone(self.ready().entry(name.clone()).or_default());
        let (this, components) = (Arc::clone(self), Arc::clone(components));
        let getting = tokio::spawn(async move {
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

    /// What was inspected and installed is ready, if nobody gets another version ready just now.
    pub fn keep(&self, name: &PluginName, digest: Digest, plugin: Plugin) {
        let slot = Arc::clone(self.ready().entry(name.clone()).or_default());
        if let Ok(mut slot) = slot.try_lock() {
            *slot = Some((digest, plugin));
        }
    }

    /// Lets go of a plugin that is no longer installed.
    pub fn forget(&self, name: &PluginName) {
        self.ready().remove(name);
    }

    pub async fn sandbox(&self) -> anyhow::Result<&Sandbox> {
        Ok(&self.place().await?.sandbox)
    }

    /// What plugins wait for, and does not end.
    pub fn hanging(&self) -> Hanging {
        self.place.get().map(|place| place.sandbox.hanging()).unwrap_or_default()
    }

    /// Compiles it in another process, which takes no time where that was done before, and reads
    /// the machine code.
    async fn load(&self, component: &Bytes, line: &Semaphore) -> Result<Plugin, Refusal> {
        let place = self.place().await?;
        let turn = line.acquire().await.context("compiling has ended")?;
        let job = Job {
            program: &self.settings.compiler,
            cache: &place.cache.code(),
            bounds: self.settings.bounds,
        };
        job.compile(component).await?;
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

/// What a plugin says of itself, if it can be.
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
