//! Configures wasmtime: how plugins are compiled, where their memory comes from, and how they are
//! interrupted.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use wasmtime::{
    Cache, CacheConfig, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
};

/// How often a running plugin is interrupted, so that other runs get the thread, and so that a run
/// that has to end can be dropped.
const TICK: Duration = Duration::from_millis(10);
/// Bytes of a plugin's own stack. It is large because the runtimes of some languages recurse
/// deeply.
const STACK_BYTES: usize = 512 * 1024;
/// Bytes of the whole stack of a run, which holds the frames of the host's functions on top of the
/// plugin's.
const ASYNC_STACK_BYTES: usize = 2 * 1024 * 1024;
/// The most parts of one plugin. The largest known plugin, the one of Python, has 14 instances and
/// 3 memories.
const INSTANCES_PER_PLUGIN: u32 = 100;
const MEMORIES_PER_PLUGIN: u32 = 8;
const TABLES_PER_PLUGIN: u32 = 16;
/// The most entries of one table. Python's has 13,500.
const TABLE_ELEMENTS: usize = 200_000;

/// The settings that influence the machine code. All engines that share a cache have to agree on
/// them.
fn config(cache: Option<Cache>) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(ASYNC_STACK_BYTES)
        .wasm_memory64(false);
    config.cache(cache);
    config
}

fn open_cache(directory: &Path) -> wasmtime::Result<Cache> {
    let mut settings = CacheConfig::new();
    settings.with_directory(directory);
    Cache::new(settings)
}

/// An engine that compiles into the cache and runs nothing, so it reserves no address space. The
/// returned cache counts its hits.
pub(crate) fn compiling(cache: &Path) -> wasmtime::Result<(Engine, Cache)> {
    let cache = open_cache(cache)?;
    Ok((Engine::new(&config(Some(cache.clone())))?, cache))
}

/// An engine for at most `runs_max` runs at once. Their memories come from a pool, which reserves
/// address space but no memory. Each begins as a copy of the plugin's memory, of which pages are
/// copied when they are written.
pub(crate) fn running(cache: Option<&Path>, runs_max: u32) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_stacks(runs_max)
        .total_component_instances(runs_max)
        .total_core_instances(runs_max.saturating_mul(INSTANCES_PER_PLUGIN))
        .total_memories(runs_max.saturating_mul(MEMORIES_PER_PLUGIN))
        .total_tables(runs_max.saturating_mul(TABLES_PER_PLUGIN))
        .max_core_instances_per_component(INSTANCES_PER_PLUGIN)
        .max_memories_per_component(MEMORIES_PER_PLUGIN)
        .max_tables_per_component(TABLES_PER_PLUGIN)
        .table_elements(TABLE_ELEMENTS);
    let mut config = config(cache.map(open_cache).transpose()?);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// Increments the engine's epoch every [`TICK`] while plugins run, and sleeps while none does. Each
/// increment interrupts the running plugins.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: usize,
    closed: bool,
}

/// Keeps the ticker ticking as long as it lives.
pub(crate) struct Running(Arc<Shared>);

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let ticking = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("plugin-ticker".to_owned())
            .spawn(move || ticking.tick(&engine))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(crate) fn running(&self) -> Running {
        self.shared.change(|state| state.running += 1);
        Running(Arc::clone(&self.shared))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.change(|state| state.closed = true);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the ticker of plugins panicked");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.change(|state| state.running -= 1);
    }
}

impl Shared {
    /// Changes the state and wakes the ticker. The change is made under the lock, so that it cannot
    /// fall between the ticker's look at the state and its wait.
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn tick(&self, engine: &Engine) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.closed {
            if state.running == 0 {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            (state, _) =
                self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner);
            engine.increment_epoch();
        }
    }
}
