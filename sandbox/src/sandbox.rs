//! Begins runs: waits for a place, makes a fresh instance of the plugin, calls it on a thread for
//! plugins, and ends it at its deadline or when its result is not wanted any more.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use wasmtime::{
    Engine, Store, UpdateDeadline,
    component::{Component, HasSelf, Linker},
};
use wasmtime_wasi::p2::bindings::filesystem::types;

use crate::{
    Ending, Fault, FaultKind, Grants, Journal, Level, Limits, Plugin, Run, TaskInfo, Unfit,
    bindings::{Plugin as World, PluginPre},
    engine::{self, Ticker},
    files::HasFiles,
    limiter::PASSED_BYTES_MAX,
    quarters::{FILE_CALLS_MAX, House, NAME_CALLS_MAX},
    state::{RunClock, State},
    threads::Threads,
    waiters::Pool,
};

/// The most resources of the component model that one run may hold.
const HANDLES_MAX: usize = 1_000;
/// The first bytes of every WebAssembly file, and of a core module: version 1, layer 0.
const WEBASSEMBLY: &[u8] = b"\0asm";
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
/// How long `describe` may take, and how much memory it may use.
const DESCRIBE_TIME: Duration = Duration::from_secs(5);
const DESCRIBE_LIMITS: Limits = Limits { memory_mib: 256 };

/// The settings of a sandbox.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder in which machine code is kept for the next start. Its contents are run as code of
    /// this process, so only this user may be able to write to it.
    pub cache: Option<PathBuf>,
    /// Threads on which plugins run.
    pub threads: usize,
    /// How many runs there may be at once. Others wait.
    pub runs_max: u32,
    /// MiB that the limits of all runs at once may add up to. Others wait.
    pub memory_mib: u32,
}

/// System calls of plugins that do not end, although their callers have given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hanging {
    pub file_calls: usize,
    pub name_lookups: usize,
    /// All calls of one kind hang, so that no plugin can make another one.
    pub all: bool,
}

/// Compiles plugins and runs them.
pub struct Sandbox {
    shared: Arc<Shared>,
    threads: Threads,
}

struct Shared {
    engine: Engine,
    linker: Linker<State>,
    ticker: Ticker,
    house: House,
    /// Permits for runs, and for the MiB that they may use.
    places: Semaphore,
    memory: Semaphore,
    memory_mib: u32,
    /// A permit to ask a plugin for its tasks: one at a time, in addition to all runs.
    describing: Semaphore,
}

/// Compiles a component into the cache, for a sandbox with the same cache. Call it in another
/// process with limits, since even a small component may take minutes and gigabytes.
///
/// Returns whether the machine code is in the cache now. Wasmtime does not report that it could not
/// be stored, for instance on a full disk; so the component is compiled a second time, which is a
/// cache hit if it was stored.
pub fn compile(bytes: &[u8], cache: &Path) -> Result<bool, Unfit> {
    let (engine, found) = engine::compiling(cache).map_err(|error| unfit(&error, bytes))?;
    let get = || Component::new(&engine, bytes).map(drop).map_err(|error| unfit(&error, bytes));
    get()?;
    if found.cache_hits() == 0 {
        get()?;
    }
    Ok(found.cache_hits() > 0)
}

impl Sandbox {
    pub fn new(settings: &Settings) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let engine =
            engine::running(settings.cache.as_deref(), settings.runs_max.saturating_add(1))?;
        let threads = Threads::start(settings.threads, FILE_CALLS_MAX + NAME_CALLS_MAX)?;
        let pool = |calls, max| Pool::new(threads.handle().clone(), calls, max);
        let shared = Shared {
            linker: linker(&engine)?,
            ticker: Ticker::start(engine.clone())?,
            house: House::new(
                pool("file operations", FILE_CALLS_MAX),
                pool("name lookups", NAME_CALLS_MAX),
            ),
            places: Semaphore::new(usize::try_from(settings.runs_max)?),
            memory: Semaphore::new(usize::try_from(settings.memory_mib)?),
            memory_mib: settings.memory_mib,
            describing: Semaphore::new(1),
            engine,
        };
        Ok(Self { shared: Arc::new(shared), threads })
    }

    /// Compiles a component, or reads its machine code from the cache, and checks that it fits the
    /// world.
    pub fn load(&self, bytes: &[u8]) -> Result<Plugin, Unfit> {
        let component =
            Component::new(&self.shared.engine, bytes).map_err(|error| unfit(&error, bytes))?;
        let wrong_world = |error: wasmtime::Error| Unfit::WrongWorld(format!("{error:#}"));
        let pre = self.shared.linker.instantiate_pre(&component).map_err(wrong_world)?;
        PluginPre::new(pre).map(Plugin::new).map_err(wrong_world)
    }

    /// Asks a plugin which tasks it runs.
    pub async fn describe(&self, plugin: &Plugin) -> Result<Vec<TaskInfo>, Unfit> {
        let room = Room {
            executor: String::new(),
            grants: Grants::default(),
            limits: DESCRIBE_LIMITS,
            time: DESCRIBE_TIME,
            journal: Arc::new(Nowhere),
            queues: false,
        };
        let _turn = self.shared.describing.acquire().await;
        let described = self
            .isolated(plugin, room, |world, store| {
                Box::pin(async { world.nightshift_plugin_tasks().call_describe(store).await })
            })
            .await
            .map_err(Unfit::Describe)?;
        Ok(described.into_iter().map(TaskInfo::from).collect())
    }

    /// Runs a task. If the future is dropped, the run ends within a few hundredths of a second.
    pub async fn run(&self, plugin: &Plugin, run: Run) -> Ending {
        let Run { executor, grants, limits, time, journal, task_path, args, kwargs, about } = run;
        let room = Room { executor, grants, limits, time, journal, queues: true };
        let ended = self
            .isolated(plugin, room, |world, store| {
                Box::pin(async move {
                    let tasks = world.nightshift_plugin_tasks();
                    tasks.call_run(store, &about.into(), &task_path, &args, &kwargs).await
                })
            })
            .await;
        match ended {
            Ok(Ok(value)) => Ending::Returned(value),
            Ok(Err(raised)) => Ending::Raised(raised.into()),
            Err(fault) => Ending::Fault(fault),
        }
    }

    /// The system calls that hang and keep threads from plugins.
    pub fn hanging(&self) -> Hanging {
        let (files, names) = (self.shared.house.files(), self.shared.house.names());
        Hanging {
            file_calls: files.hung(),
            name_lookups: names.hung(),
            all: files.is_full() || names.is_full(),
        }
    }

    /// Makes a fresh instance and calls it, on the threads for plugins.
    ///
    /// If this future is dropped, the guard cancels `stop`. The spawned task does not end with the
    /// future, but it notices the token at its next tick.
    async fn isolated<T: Send + 'static>(
        &self,
        plugin: &Plugin,
        room: Room,
        ask: impl Ask<T>,
    ) -> Result<T, Fault> {
        let stop = CancellationToken::new();
        let _stopped_when_dropped = stop.clone().drop_guard();
        let began = Instant::now();
        let clock = RunClock { began, deadline: began + room.time, stop };
        let (shared, plugin) = (Arc::clone(&self.shared), plugin.clone());
        let asking = async move { shared.ask(&plugin, room, clock, ask).await };
        match self.threads.spawn(asking).await {
            Ok(answer) => answer,
            Err(_panicked) => Err(Fault::new(FaultKind::Trap, "the host of plugins panicked")),
        }
    }
}

/// All that a run is given.
struct Room {
    executor: String,
    grants: Grants,
    limits: Limits,
    time: Duration,
    journal: Arc<dyn Journal>,
    /// Whether it has to wait for a place among the runs.
    queues: bool,
}

/// A call of an instance.
trait Ask<T>:
    for<'a> FnOnce(&'a World, &'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<T>>
    + Send
    + 'static
{
}

impl<T, F> Ask<T> for F where
    F: for<'a> FnOnce(&'a World, &'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<T>>
        + Send
        + 'static
{
}

impl Shared {
    async fn ask<T>(
        &self,
        plugin: &Plugin,
        room: Room,
        clock: RunClock,
        ask: impl Ask<T>,
    ) -> Result<T, Fault> {
        let beginning = async {
            let place = if room.queues { Some(self.place(room.limits).await?) } else { None };
            let quarters = self.house.of(&room.executor);
            let Room { grants, limits, journal, .. } = room;
            let state = State::new(grants, limits, journal, clock.clone(), quarters).await?;
            Ok::<_, Fault>((place, state))
        };
        // The wait for a place counts as time of the run.
        let (_place, state) = tokio::select! {
            begun = beginning => begun?,
            fault = clock.over() => return Err(fault),
        };
        let _running = self.ticker.running();
        let mut store = self.store(state);
        // `biased`: look first whether the run is over, then let the plugin run to its next tick.
        let answer = tokio::select! {
            biased;
            fault = clock.over() => Err(fault),
            answer = async {
                let world = plugin.pre().instantiate_async(&mut store).await?;
                ask(&world, &mut store).await
            } => answer.map_err(|error| {
                let state = store.data();
                Fault::of(&error, &state.budget, &state.stderr.tail())
            }),
        };
        store.data().close();
        answer
    }

    /// Waits for a place among the runs, and then for the memory that the run may use. Both are
    /// taken in this order by every run, and a run that has both waits for neither, so runs cannot
    /// block each other for ever.
    async fn place(&self, limits: Limits) -> Result<Place<'_>, Fault> {
        let Limits { memory_mib } = limits;
        if memory_mib > self.memory_mib {
            let all = self.memory_mib;
            let message = format!("a run may have {memory_mib} MiB, all plugins here {all} MiB");
            return Err(Fault::new(FaultKind::NotStarted, message));
        }
        Ok((self.places.acquire().await.ok(), self.memory.acquire_many(memory_mib).await.ok()))
    }

    fn store(&self, state: State) -> Store<State> {
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(PASSED_BYTES_MAX);
        store.set_max_component_handles(HANDLES_MAX);
        // At each tick, the run yields its thread. Then other runs get their turn, and the
        // `select!` in `ask` looks whether this run is over.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| {
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store
    }
}

/// The permits of a run. (Neither semaphore is ever closed.)
type Place<'a> = (Option<SemaphorePermit<'a>>, Option<SemaphorePermit<'a>>);

fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    // These replace wasmtime's functions, which open files that block and share their threads among
    // all plugins.
    linker.allow_shadowing(true);
    types::add_to_linker::<State, HasFiles>(&mut linker, State::files)?;
    linker.allow_shadowing(false);
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    World::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

fn unfit(error: &wasmtime::Error, bytes: &[u8]) -> Unfit {
    if bytes.starts_with(CORE_MODULE) {
        return Unfit::CoreModule;
    }
    if !bytes.starts_with(WEBASSEMBLY) {
        return Unfit::NotWebAssembly;
    }
    Unfit::NotCompiled(format!("{error:#}"))
}

/// A journal that drops everything.
struct Nowhere;

impl Journal for Nowhere {
    fn log(&self, _level: Level, _line: String) {}
    fn progress(&self, _fraction: Option<f64>, _message: Option<String>) {}
}
