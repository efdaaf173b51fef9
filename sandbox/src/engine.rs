//! How plugins are compiled and where their memory comes from.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use wasmtime::{
    Cache, CacheConfig, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
};

/// How often a running plugin is interrupted, to let others run and to see whether it is to stop.
const TICK: Duration = Duration::from_millis(10);
/// Bytes of a plugin's own stack: languages' runtimes recurse deeply.
const STACK_BYTES: usize = 512 * 1024;
/// Bytes of the stack that a run lies on, with the host's functions on top of the plugin's.
const ASYNC_STACK_BYTES: usize = 2 * 1024 * 1024;
/// Parts of one plugin. The largest that was seen, of Python, has 14 instances and 3 memories.
const INSTANCES_PER_PLUGIN: u32 = 100;
const MEMORIES_PER_PLUGIN: u32 = 8;
const TABLES_PER_PLUGIN: u32 = 16;
/// Entries of one table, 13,500 in Python.
const TABLE_ELEMENTS: usize = 200_000;

/// What decides about the machine code, so that all that share a cache agree.
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

/// An engine that compiles into the cache and runs nothing: it reserves no address space. The
/// cache counts what was found there.
pub(crate) fn compiling(cache: &Path) -> wasmtime::Result<(Engine, Cache)> {
    let cache = open_cache(cache)?;
    Ok((Engine::new(&config(Some(cache.clone())))?, cache))
}

/// An engine for so many runs at once. Their memories are taken from a pool, of which only address
/// space is reserved, and begin as copies of the plugin's, made page by page as it writes.
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

/// Moves the engine's epoch on while plugins run, and rests while none does.
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

/// While it lives, the ticker ticks.
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
