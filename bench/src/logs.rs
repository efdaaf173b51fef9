//! Whether a flood of log lines keeps others from the writer.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use nightshift_client::{
    Client, EnqueueOptions,
    types::{LeaseRequest, LogLevel, LogLineRequest, RenewRequest},
};

use crate::work;

/// Bytes of a line, as long as one may be.
const LINE_BYTES: usize = 8 * 1024;
/// Lines of one heartbeat: about as much as one request may carry.
const LINES_AT_ONCE: u64 = 400;

/// A flood of log lines beside single tasks.
#[derive(clap::Args)]
pub(crate) struct Logs {
    /// Attempts that log at the same time
    #[arg(long, default_value_t = 10)]
    runs: i64,
    /// Lines of each
    #[arg(long, default_value_t = 4_000)]
    lines: u64,
    /// Tasks that are enqueued alone before
    #[arg(long, default_value_t = 500)]
    count: u32,
}

/// Of the times that single tasks took to enqueue, in milliseconds.
pub(crate) struct Figures {
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) slowest: f64,
}

impl Figures {
    fn of(mut times: Vec<f64>) -> anyhow::Result<Self> {
        let slowest = times.iter().copied().fold(0.0, f64::max);
        times.sort_by(f64::total_cmp);
        let [median, p99] = super::percentiles(times)?;
        Ok(Self { median, p99, slowest })
    }
}

impl Logs {
    /// What enqueuing takes alone, and beside the flood.
    pub(crate) async fn run(&self, client: &Client) -> anyhow::Result<[Figures; 2]> {
        super::register_workers(client).await?;
        super::enqueue_many(client, "drain.a", self.runs.unsigned_abs()).await?;
        let request = LeaseRequest {
            worker_id: "logs".to_owned(),
            max_tasks: Some(self.runs),
            ..LeaseRequest::default()
        };
        let leases = client.lease_tasks("drain", &request).await?.leases;
        ensure!(leases.len() as u64 == self.runs.unsigned_abs(), "too few tasks to log for");
        let mut alone = Vec::new();
        for _ in 0..self.count {
            alone.push(enqueue(client).await?);
        }
        let flood = try_join_all(leases.iter().map(|lease| self.flood(client, &lease.token)));
        let mut flood = std::pin::pin!(flood);
        let mut beside = Vec::new();
        loop {
            tokio::select! {
                ended = &mut flood => break drop(ended?),
                taken = enqueue(client) => beside.push(taken?),
            }
        }
        Ok([Figures::of(alone)?, Figures::of(beside)?])
    }

    async fn flood(&self, client: &Client, token: &str) -> anyhow::Result<()> {
        let message = "x".repeat(LINE_BYTES);
        let mut left = self.lines;
        while left > 0 {
            let count = left.min(LINES_AT_ONCE);
            left -= count;
            let line =
                || LogLineRequest { at: None, level: LogLevel::Info, message: message.clone() };
            let logs = (0..count).map(|_| line()).collect();
            let request = RenewRequest { logs, ..RenewRequest::default() };
            client.renew_lease(token, &request).await.context("a heartbeat was not taken")?;
        }
        Ok(())
    }
}

async fn enqueue(client: &Client) -> anyhow::Result<f64> {
    let (request, options) = (work::task("unrouted.single")?, EnqueueOptions::default());
    let start = Instant::now();
    client.create_task(&request, &options).await?;
    let taken: Duration = start.elapsed();
    Ok(taken.as_secs_f64() * 1_000.0)
}
