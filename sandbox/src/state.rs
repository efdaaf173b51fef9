use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    Fault, FaultKind,
    limiter::Limiter,
    network::{Door, Network},
    output::{Log, Output},
    run::{Grants, Journal, Level, Limits},
};

/// Entries of the table of what a plugin holds of the host's: streams, requests, files. Each takes
/// of the host's memory or of its open files, beside what the limiter counts.
const RESOURCES_MAX: usize = 256;
/// Bytes of the headers of one request or answer.
const FIELDS_BYTES_MAX: usize = 32 * 1024;
/// Bytes of random numbers that may be asked for at once.
const RANDOM_BYTES_MAX: u64 = 1024 * 1024;

/// What belongs to one run.
pub(crate) struct State {
    pub(crate) limiter: Limiter,
    pub(crate) clock: RunClock,
    pub(crate) log: Arc<Log>,
    pub(crate) stderr: Output,
    pub(crate) door: Door,
    stdout: Output,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
}

/// When a run began, when it has to end, and whether anybody still wants it.
#[derive(Clone, Debug)]
pub(crate) struct RunClock {
    pub(crate) began: Instant,
    pub(crate) deadline: Instant,
    pub(crate) stop: CancellationToken,
}

impl RunClock {
    /// Returns when the run has to end.
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

    /// Whether to come to an end: less than a tenth of the time is left, or none is wanted.
    pub(crate) fn is_over_soon(&self) -> bool {
        let whole = self.deadline.duration_since(self.began);
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.stop.is_cancelled() || left < whole / 10
    }
}

impl State {
    pub(crate) fn new(
        grants: Grants,
        limits: Limits,
        journal: Arc<dyn Journal>,
        clock: RunClock,
        network: Network,
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
            .allow_ip_name_lookup(false);
        for directory in &grants.directories {
            let seen = format!("/data/{}", directory.name);
            wasi.preopened_dir(&directory.path, seen, FsPerms::ReadOnly).map_err(|error| {
                let cause = crate::fault::root(&error);
                let message =
                    format!("the directory {:?} cannot be opened: {cause}", directory.name);
                Fault::new(FaultKind::NotStarted, message)
            })?;
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        Ok(Self {
            limiter: Limiter::new(limits.memory_bytes),
            clock,
            log,
            stderr,
            door: Door { network, reach: grants.http },
            stdout,
            table,
            wasi: wasi.build(),
            http,
        })
    }

    /// Logs what is left.
    pub(crate) fn close(&self) {
        self.stdout.close();
        self.stderr.close();
        self.log.close();
    }
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
