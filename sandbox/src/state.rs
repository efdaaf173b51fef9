//! All that belongs to one run: its memory budget, its clock, its output, and its access to files
//! and network. It is made when the run begins, and dropped when it ends.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{
    FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, filesystem::WasiFilesystemCtxView,
};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    Fault, FaultKind,
    files::Files,
    limiter::{Budget, Limiter},
    network::Door,
    output::{Log, Output},
    quarters::Quarters,
    run::{Directory, Grants, Journal, Level, Limits},
    wasi_http::HEADER_BYTES_MAX,
};

/// The most entries in the table of a plugin's resources: streams, requests, files. Each uses
/// memory or an open file of the host, which the limiter does not count completely.
const RESOURCES_MAX: usize = 256;
/// The most bytes of random numbers that a plugin may ask for at once.
const RANDOM_BYTES_MAX: u64 = 1024 * 1024;

/// The state of one run.
pub(crate) struct State {
    pub(crate) limiter: Limiter,
    pub(crate) budget: Arc<Budget>,
    pub(crate) clock: RunClock,
    pub(crate) log: Arc<Log>,
    pub(crate) stderr: Output,
    pub(crate) door: Door,
    stdout: Output,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
}

/// When a run began and when it has to end, and a token that is cancelled if it is not wanted any
/// more.
#[derive(Clone, Debug)]
pub(crate) struct RunClock {
    pub(crate) began: Instant,
    pub(crate) deadline: Instant,
    pub(crate) stop: CancellationToken,
}

impl RunClock {
    /// Returns when the run has to end, with the reason.
    pub(crate) async fn over(&self) -> Fault {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                Fault::new(FaultKind::Cancelled, "the run is not wanted any more")
            }
            () = tokio::time::sleep_until(self.deadline) => {
                let seconds = self.deadline.duration_since(self.began).as_secs_f64();
                Fault::new(FaultKind::Timeout, format!("the run took longer than {seconds} s"))
            }
        }
    }

    /// Whether the plugin should come to an end: less than a tenth of the time is left, or the run
    /// is not wanted any more.
    pub(crate) fn is_over_soon(&self) -> bool {
        let whole = self.deadline.duration_since(self.began);
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.stop.is_cancelled() || left < whole / 10
    }
}

impl State {
    pub(crate) async fn new(
        grants: Grants,
        limits: Limits,
        journal: Arc<dyn Journal>,
        clock: RunClock,
        quarters: Arc<Quarters>,
    ) -> Result<Self, Fault> {
        let log = Arc::new(Log::new(journal));
        let stdout = Output::new(Level::Info, Arc::clone(&log));
        let stderr = Output::new(Level::Warning, Arc::clone(&log));
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(stdout.clone())
            .stderr(stderr.clone())
            .envs(&grants.environment)
            .max_random_size(RANDOM_BYTES_MAX)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            // It is called on threads that may block: see `Files::ask`.
            .allow_blocking_current_thread(true);
        if !grants.directories.is_empty() {
            let directories = grants.directories;
            // On a thread that may block, since a directory's file system may never answer.
            let opening = quarters.files.call(move || open(wasi, &directories)).await;
            wasi =
                opening.map_err(|hung| Fault::new(FaultKind::NotStarted, hung.to_string()))??;
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let budget = Budget::new(limits.memory_bytes());
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HEADER_BYTES_MAX);
        Ok(Self {
            limiter: Limiter(Arc::clone(&budget)),
            clock,
            log,
            stderr,
            door: Door { quarters, reach: grants.http, budget: Arc::clone(&budget) },
            budget,
            stdout,
            table,
            wasi: wasi.build(),
            http,
        })
    }

    pub(crate) fn files(&mut self) -> Files<'_> {
        let Self { door, budget, table, wasi, .. } = self;
        let view = WasiFilesystemCtxView { ctx: wasi.filesystem(), table };
        Files { view, waiters: &door.quarters.files, budget }
    }

    /// Logs output that is not logged yet.
    pub(crate) fn close(&self) {
        self.stdout.close();
        self.stderr.close();
        self.log.close();
    }
}

/// Opens the directories that the plugin can see from the start. May block for ever.
fn open(mut wasi: WasiCtxBuilder, directories: &[Directory]) -> Result<WasiCtxBuilder, Fault> {
    for directory in directories {
        let seen = format!("/data/{}", directory.name);
        wasi.preopened_dir(&directory.path, seen, FsPerms::ReadOnly).map_err(|error| {
            let cause = crate::fault::root(&error);
            let message = format!("the directory {:?} cannot be opened: {cause}", directory.name);
            Fault::new(FaultKind::NotStarted, message)
        })?;
    }
    Ok(wasi)
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.door, table: &mut self.table, ctx: &mut self.http }
    }
}
