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

/// Resources of the component model that one run may hold.
const HANDLES_MAX: usize = 1_000;
/// How WebAssembly begins, and how a core module goes on: version 1, layer 0.
const WEBASSEMBLY: &[u8] = b"\0asm";
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
/// How long `describe` may take, and how much memory.
const DESCRIBE_TIME: Duration = Duration::from_secs(5);
const DESCRIBE_LIMITS: Limits = Limits { memory_mib: 256 };

/// How a sandbox is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where machine code is kept for the next start. Whoever can write there can run code as
    /// this process.
    pub cache: Option<PathBuf>,
    /// Threads that plugins run on.
    pub threads: usize,
    /// Runs at once; others wait.
    pub runs_max: u32,
    /// MiB of the limits of all runs at once; others wait.
    pub memory_mib: u32,
}

/// System calls of plugins that nobody waits for any more, and that do not end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hanging {
    pub file_calls: usize,
    pub name_lookups: usize,
    /// There are so many of one kind that no plugin gets a thread for another.
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
    /// Runs that may begin, and MiB that they may have.
    places: Semaphore,
    memory: Semaphore,
    memory_mib: u32,
    /// Whether a plugin is asked for its tasks: one at a time, beside all runs.
    describing: Semaphore,
}

/// Compiles a component into the cache, for a sandbox with the same cache. To be called in a
/// process of its own, with limits: a small component may take minutes and gigabytes. Says whether
/// the machine code is in the cache now: wasmtime says nothing of a disk that is full.
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

    /// Compiles a component, or reads what was compiled before, and checks that it fits the world.
    pub fn load(&self, bytes: &[u8]) -> Result<Plugin, Unfit> {
        let component =
            Component::new(&self.shared.engine, bytes).map_err(|error| unfit(&error, bytes))?;
        let wrong_world = |error: wasmtime::Error| Unfit::WrongWorld(format!("{error:#}"));
        let pre = self.shared.linker.instantiate_pre(&component).map_err(wrong_world)?;
        PluginPre::new(pre).map(Plugin::new).map_err(wrong_world)
    }

    /// Asks a plugin for its tasks.
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

    /// Runs a task. Whoever drops the future ends the run, within a few hundredths of a second.
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

    /// What hangs, and takes threads from plugins.
    pub fn hanging(&self) -> Hanging {
        let (files, names) = (self.shared.house.files(), self.shared.house.names());
        Hanging {
            file_calls: files.hung(),
            name_lookups: names.hung(),
            all: files.is_full() || names.is_full(),
        }
    }

    /// Asks a fresh instance, on the threads for plugins.
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

/// What a run gets.
struct Room {
    executor: String,
    grants: Grants,
    limits: Limits,
    time: Duration,
    journal: Arc<dyn Journal>,
    /// Whether it waits for a place among the runs.
    queues: bool,
}

/// One question to an instance.
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
        let (_place, state) = tokio::select! {
            begun = beginning => begun?,
            fault = clock.over() => return Err(fault),
        };
        let _running = self.ticker.running();
        let mut store = self.store(state);
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

    /// A place among the runs, and the memory that the run may have.
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
        // At each tick others get their turn, and whoever waits for this run looks whether it is
        // over.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| {
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store
    }
}

/// Held by a run. (Neither semaphore is ever closed.)
type Place<'a> = (Option<SemaphorePermit<'a>>, Option<SemaphorePermit<'a>>);

fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    // In place of wasmtime's, which open what blocks and share their threads among all plugins.
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

/// Hears nothing.
struct Nowhere;

impl Journal for Nowhere {
    fn log(&self, _level: Level, _line: String) {}
    fn progress(&self, _fraction: Option<f64>, _message: Option<String>) {}
}
