//! Puts load on a running service and says how much it takes. `make bench` runs it against fresh
//! services on both engines.
#![expect(clippy::print_stdout, reason = "the figures go there")]

mod executor;
mod logs;
mod watch;
mod work;

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use futures_util::future::try_join_all;
use nightshift_client::{
    Client, EnqueueOptions,
    types::{
        ExecutorKind, ExecutorRequest, FinishBatch, FinishEntry, Lease, LeaseRequest, TaskBatch,
    },
};

/// Tasks of one batch when much is enqueued.
const BATCH: u64 = 1_000;
/// Signs calls to the executor here; nobody else ever sees it.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Puts load on a running service.
#[derive(Parser)]
struct Cli {
    /// The service
    #[arg(long)]
    server: String,
    /// What the service asks for, if it does
    #[arg(long, env = "NIGHTSHIFT_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Single tasks from many connections, none of them waiting for another
    Enqueue {
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        #[arg(long, default_value_t = 64)]
        connections: usize,
    },
    /// Tasks in batches of 1,000
    Batch {
        #[arg(long, default_value_t = 100_000)]
        tasks: u64,
    },
    /// Workers that lease and finish many at once
    Drain {
        #[arg(long, default_value_t = 50_000)]
        tasks: u64,
        #[arg(long, default_value_t = 4)]
        workers: usize,
        #[arg(long, default_value_t = 100)]
        at_once: i64,
    },
    /// An HTTP executor that answers at once
    Push {
        #[arg(long, default_value_t = 20_000)]
        tasks: u64,
        #[arg(long, default_value_t = 64)]
        concurrency: i64,
    },
    /// From POST until the wait for its end answers, one task at a time
    Latency {
        #[arg(long, default_value_t = 500)]
        count: u32,
    },
    /// Enqueued here, leased and finished by a worker at a second replica, waited for at a third
    Replicas {
        /// Where the worker asks
        #[arg(long)]
        worker_server: String,
        /// Where the end is waited for
        #[arg(long)]
        wait_server: String,
        #[arg(long, default_value_t = 200)]
        count: u32,
    },
    /// Readers of events beside a steady load
    Watch(watch::Watch),
    /// A flood of log lines beside single tasks
    Logs(logs::Logs),
    /// Tasks that have ended, and tasks that wait for nobody
    Fill {
        #[arg(long, default_value_t = 1_000_000)]
        finished: u64,
        #[arg(long, default_value_t = 200_000)]
        waiting: u64,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Cli { server, token, load } = Cli::parse();
    let client_of = |server: &str| -> anyhow::Result<Client> {
        let client = Client::new(server)?;
        Ok(match &token {
            Some(token) => client.with_token(token)?,
            None => client,
        })
    };
    let client = client_of(&server)?;
    match load {
        Load::Enqueue { seconds, connections } => {
            let rate = enqueue(&client, Duration::from_secs(seconds), connections).await?;
            println!("enqueue {rate:.0} tasks/s");
        }
        Load::Batch { tasks } => {
            let taken = enqueue_many(&client, "unrouted.batch", tasks).await?;
            println!("batch {:.0} tasks/s", rate(tasks, taken));
        }
        Load::Drain { tasks, workers, at_once } => {
            register_workers(&client).await?;
            enqueue_many(&client, "drain.a", tasks).await?;
            let taken = drain(&client, tasks, workers, at_once).await?;
            println!("drain {:.0} tasks/s", rate(tasks, taken));
        }
        Load::Push { tasks, concurrency } => {
            let taken = push(&client, tasks, concurrency).await?;
            println!("push {:.0} tasks/s", rate(tasks, taken));
        }
        Load::Latency { count } => {
            let [median, p99] = latency(&client, count).await?;
            println!("latency {median:.2} ms");
            println!("latency-p99 {p99:.2} ms");
        }
        Load::Replicas { worker_server, wait_server, count } => {
            let (worker, waiter) = (client_of(&worker_server)?, client_of(&wait_server)?);
            let [median, p99] = replicas(&client, &worker, &waiter, count).await?;
            println!("replicas {median:.2} ms");
            println!("replicas-p99 {p99:.2} ms");
        }
        Load::Watch(watch) => {
            let [median, p99, watched_median, watched_p99] = watch.run(&client, &server).await?;
            println!("unwatched {median:.2} ms");
            println!("unwatched-p99 {p99:.2} ms");
            println!("watched {watched_median:.2} ms");
            println!("watched-p99 {watched_p99:.2} ms");
        }
        Load::Logs(logs) => {
            let [alone, beside] = logs.run(&client).await?;
            for (name, figures) in [("alone", &alone), ("beside", &beside)] {
                println!("{name} {:.2} ms", figures.median);
                println!("{name}-p99 {:.2} ms", figures.p99);
                println!("{name}-slowest {:.2} ms", figures.slowest);
            }
            println!("slowest, beside against alone: {:.1}", beside.slowest / alone.slowest);
        }
        Load::Fill { finished, waiting } => {
            register_workers(&client).await?;
            enqueue_many(&client, "drain.a", finished).await?;
            drain(&client, finished, 4, 1_000).await?;
            enqueue_many(&client, "unrouted.fill", waiting).await?;
            println!("filled {finished} finished, {waiting} waiting");
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn rate(tasks: u64, taken: Duration) -> f64 {
    tasks as f64 / taken.as_secs_f64()
}

async fn enqueue(client: &Client, time: Duration, connections: usize) -> anyhow::Result<f64> {
    let count = AtomicU64::new(0);
    let (request, options) = (work::task("unrouted.single")?, EnqueueOptions::default());
    let start = Instant::now();
    let loops = (0..connections).map(|_| async {
        while start.elapsed() < time {
            client.create_task(&request, &options).await?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    });
    try_join_all(loops).await?;
    Ok(rate(count.into_inner(), start.elapsed()))
}

/// Enqueues in batches, four at a time, and says how long it took.
async fn enqueue_many(client: &Client, path: &str, tasks: u64) -> anyhow::Result<Duration> {
    let left = AtomicI64::new(i64::try_from(tasks)?);
    let task = work::task(path)?;
    let start = Instant::now();
    let loops = (0..4).map(|_| async {
        loop {
            let size = i64::try_from(BATCH)?;
            let size = size.min(left.fetch_sub(size, Ordering::Relaxed));
            if size <= 0 {
                return anyhow::Ok(());
            }
            let tasks = vec![task.clone(); usize::try_from(size)?];
            client.create_tasks(&TaskBatch { tasks }).await?;
        }
    });
    try_join_all(loops).await?;
    Ok(start.elapsed())
}

async fn register_workers(client: &Client) -> anyhow::Result<()> {
    let request = ExecutorRequest {
        kind: ExecutorKind::Worker,
        task_paths: vec!["drain.*".to_owned()],
        ..ExecutorRequest::default()
    };
    client.put_executor("drain", &request).await?;
    Ok(())
}

async fn drain(
    client: &Client,
    tasks: u64,
    workers: usize,
    at_once: i64,
) -> anyhow::Result<Duration> {
    let left = AtomicI64::new(i64::try_from(tasks)?);
    let end = work::end()?;
    let start = Instant::now();
    let loops = (0..workers).map(|number| {
        let (left, end) = (&left, &end);
        async move {
            let request = LeaseRequest {
                worker_id: format!("w{number}"),
                max_tasks: Some(at_once),
                wait_seconds: Some(1),
                ..LeaseRequest::default()
            };
            while left.load(Ordering::Relaxed) > 0 {
                let leases = client.lease_tasks("drain", &request).await?.leases;
                if leases.is_empty() {
                    continue;
                }
                let entry = |lease: &Lease| FinishEntry::new(&lease.token, end.clone());
                let results = leases.iter().map(entry).collect();
                let answers = client.finish_leases(&FinishBatch { results }).await?.results;
                let lost = answers.iter().find_map(|answer| answer.problem.as_ref());
                ensure!(lost.is_none(), "an end was not recorded: {lost:?}");
                left.fetch_sub(i64::try_from(answers.len())?, Ordering::Relaxed);
            }
            Ok(())
        }
    });
    try_join_all(loops).await?;
    Ok(start.elapsed())
}

async fn push(client: &Client, tasks: u64, concurrency: i64) -> anyhow::Result<Duration> {
    let executor = executor::start().await?;
    let mut request = ExecutorRequest {
        task_paths: vec!["push.*".to_owned()],
        url: Some(executor.url()),
        secret: Some(SECRET.to_owned()),
        concurrency: Some(concurrency),
        paused: true,
        ..ExecutorRequest::default()
    };
    client.put_executor("push", &request).await?;
    enqueue_many(client, "push.a", tasks).await?;
    request.paused = false;
    let start = Instant::now();
    client.put_executor("push", &request).await?;
    executor.called(tasks).await?;
    // The last ends are on their way.
    while client.get_queue("default").await?.in_flight > 0 {}
    Ok(start.elapsed())
}

/// Median and 99th percentile, in milliseconds.
async fn latency(client: &Client, count: u32) -> anyhow::Result<[f64; 2]> {
    let executor = executor::start().await?;
    let request = ExecutorRequest {
        task_paths: vec!["latency".to_owned()],
        url: Some(executor.url()),
        secret: Some(SECRET.to_owned()),
        ..ExecutorRequest::default()
    };
    client.put_executor("latency", &request).await?;
    let wait = Some(Duration::from_secs(10));
    let options = EnqueueOptions { wait, ..EnqueueOptions::default() };
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        let task = client.create_task(&work::task("latency")?, &options).await?.task;
        ensure!(task.status.is_finished(), "a task took longer than ten seconds");
        times.push(start.elapsed().as_secs_f64() * 1_000.0);
    }
    percentiles(times)
}

/// Median and 99th percentile.
fn percentiles(mut times: Vec<f64>) -> anyhow::Result<[f64; 2]> {
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get(times.len() * part / 100).copied().context("no times");
    Ok([at(50)?, at(99)?])
}

/// From POST at one replica to the end of the wait at another, in milliseconds, with a worker
/// that waits for tasks at a third.
async fn replicas(
    client: &Client,
    worker: &Client,
    waiter: &Client,
    count: u32,
) -> anyhow::Result<[f64; 2]> {
    register_workers(client).await?;
    let request = LeaseRequest {
        worker_id: "w1".to_owned(),
        wait_seconds: Some(20),
        ..LeaseRequest::default()
    };
    let mut times = Vec::new();
    for _ in 0..count {
        let leasing = async {
            let lease = worker.lease_tasks("drain", &request).await?.leases.pop();
            let token = lease.context("no task came")?.token;
            anyhow::Ok(worker.finish_lease(&token, &work::end()?).await?)
        };
        let enqueuing = async {
            // Long enough for the worker to be waiting.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let start = Instant::now();
            let options = EnqueueOptions::default();
            let id = client.create_task(&work::task("drain.a")?, &options).await?.task.id;
            let task = waiter.get_task(id, Some(Duration::from_secs(20))).await?;
            ensure!(task.status.is_finished(), "a task took longer than 20 seconds");
            anyhow::Ok(start.elapsed())
        };
        let (_, taken) = futures_util::future::try_join(leasing, enqueuing).await?;
        times.push(taken.as_secs_f64() * 1_000.0);
    }
    percentiles(times)
}
