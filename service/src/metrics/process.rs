//! Figures of this process from /proc, for the metrics that Prometheus' client libraries usually
//! show.

use std::time::Duration;

use procfs::{
    ProcResult,
    process::{LimitValue, Process},
};

/// The figures behind the usual `process_...` metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    pub(super) open_files: u64,
    pub(super) open_files_max: u64,
    pub(super) virtual_bytes: u64,
    pub(super) resident_bytes: u64,
    pub(super) threads: u64,
}

impl Usage {
    /// Reads the figures from /proc.
    pub(super) fn now() -> ProcResult<Self> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks = stat.utime.saturating_add(stat.stime);
        let cpu = Duration::from_millis(ticks * 1_000 / procfs::ticks_per_second().max(1));
        Ok(Self {
            cpu_seconds: cpu.as_secs_f64(),
            open_files: process.fd_count()? as u64,
            open_files_max: limit(process.limits()?.max_open_files.soft_limit),
            virtual_bytes: stat.vsize,
            resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
            threads: u64::try_from(stat.num_threads).unwrap_or(0),
        })
    }
}

fn limit(limit: LimitValue) -> u64 {
    match limit {
        LimitValue::Value(value) => value,
        LimitValue::Unlimited => u64::MAX,
    }
}
