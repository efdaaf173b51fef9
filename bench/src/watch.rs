//! Many readers of events beside a steady load: what they cost, and whether each sees everything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use futures_util::future::{join, try_join_all};
use nightshift_client::{Client, EnqueueOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{drain, percentiles, register_workers, work};

/// Enqueued, started, finished.
const EVENTS_PER_TASK: u64 = 3;
/// How long readers may take to see the last event once the load is over.
const LAST_EVENTS: Duration = Duration::from_mins(3);
/// How often one that comes back breaks its connection off.
const BREAK: Duration = Duration::from_secs(2);

/// Readers of events beside a steady load
#[derive(Args)]
pub(crate) struct Watch {
    #[arg(long, default_value_t = 1_000)]
    readers: usize,
    /// Of these, so many that stand still until the load is over
    #[arg(long, default_value_t = 100)]
    stalled: usize,
    /// Of these, so many that break off again and again and come back
    #[arg(long, default_value_t = 100)]
    returning: usize,
    /// Tasks a second
    #[arg(long, default_value_t = 500)]
    rate: u64,
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

#[derive(Clone, Copy)]
enum Manner {
    Steady,
    Returning,
    Stalled,
}

impl Watch {
    /// Median and 99th percentile of enqueuing, in milliseconds, without readers and with them.
    pub(crate) async fn run(&self, client: &Client, server: &str) -> anyhow::Result<[f64; 4]> {
        register_workers(client).await?;
        let [median, p99] = self.load(client).await?;
        let readers = self.readers(server)?;
        let open = Arc::clone(&readers.open);
        let over = Arc::clone(&readers.over);
        // On a thread of their own, so that the times are those of the service.
        let reading = tokio::task::spawn_blocking(move || readers.run());
        while open.load(Ordering::Relaxed) < self.readers as u64 {
            ensure!(!reading.is_finished(), "{:?}", reading.await?);
            sleep(Duration::from_millis(10)).await;
        }
        let loaded = self.load(client).await;
        over.store(true, Ordering::Relaxed);
        reading.await??;
        let [watched_median, watched_p99] = loaded?;
        Ok([median, p99, watched_median, watched_p99])
    }

    fn readers(&self, server: &str) -> anyhow::Result<Readers> {
        let address = server.strip_prefix("http://").context("an address without http://")?;
        let manners = (0..self.readers).map(|number| match number {
            number if number < self.stalled => Manner::Stalled,
            number if number < self.stalled + self.returning => Manner::Returning,
            _ => Manner::Steady,
        });
        Ok(Readers {
            address: address.to_owned(),
            manners: manners.collect(),
            wanted: self.rate * self.seconds * EVENTS_PER_TASK,
            bound: LAST_EVENTS + Duration::from_secs(self.seconds),
            over: Arc::default(),
            open: Arc::default(),
        })
    }

    /// Enqueues at the rate while a worker drains, and says how long each took.
    async fn load(&self, client: &Client) -> anyhow::Result<[f64; 2]> {
        const CONNECTIONS: u64 = 10;
        let (request, options) = (work::task("drain.a")?, EnqueueOptions::default());
        let enqueuing = try_join_all((0..CONNECTIONS).map(|_| async {
            let mut times = Vec::new();
            let mut beat = interval(Duration::from_secs(1) * 10 / u32::try_from(self.rate)?);
            beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for _ in 0..self.rate * self.seconds / CONNECTIONS {
                beat.tick().await;
                let start = Instant::now();
                client.create_task(&request, &options).await?;
                times.push(start.elapsed().as_secs_f64() * 1_000.0);
            }
            anyhow::Ok(times)
        }));
        let (times, drained) =
            join(enqueuing, drain(client, self.rate * self.seconds, 1, 100)).await;
        drained?;
        percentiles(times?.into_iter().flatten().collect())
    }
}

struct Readers {
    address: String,
    manners: Vec<Manner>,
    /// How many events each has to see, and how long it may take.
    wanted: u64,
    bound: Duration,
    /// Set once the load is over.
    over: Arc<AtomicBool>,
    /// How many are connected.
    open: Arc<AtomicU64>,
}

impl Readers {
    fn run(&self) -> anyhow::Result<()> {
        let all = self.manners.iter().map(|manner| {
            let reader = Reader {
                address: &self.address,
                wanted: self.wanted,
                seen: 0,
                last: (0, 0),
                over: &self.over,
                open: &self.open,
            };
            reader.run(*manner)
        });
        let reading = async { timeout(self.bound, try_join_all(all)).await };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(reading).context("some readers have not seen all events")??;
        Ok(())
    }
}

struct Reader<'a> {
    address: &'a str,
    wanted: u64,
    seen: u64,
    last: (u64, u64),
    over: &'a AtomicBool,
    open: &'a AtomicU64,
}

impl Reader<'_> {
    async fn run(mut self, manner: Manner) -> anyhow::Result<()> {
        let mut stream = self.connect().await?;
        self.open.fetch_add(1, Ordering::Relaxed);
        if let Manner::Stalled = manner {
            while !self.over.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(100)).await;
            }
        }
        while self.seen < self.wanted {
            match manner {
                Manner::Steady | Manner::Stalled => self.read(&mut stream).await?,
                Manner::Returning => {
                    if let Ok(read) = timeout(BREAK, self.read(&mut stream)).await {
                        read?;
                    }
                    stream = self.connect().await?;
                }
            }
        }
        ensure!(self.seen == self.wanted, "{} events instead of {}", self.seen, self.wanted);
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await?;
        let last = match self.last {
            (0, 0) => String::new(),
            (seq, u64::MAX) => format!("Last-Event-ID: {seq}\r\n"),
            (seq, index) => format!("Last-Event-ID: {seq}.{index}\r\n"),
        };
        let request = format!("GET /events HTTP/1.0\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        ensure!(status.ends_with(b" 200"), "{}", String::from_utf8_lossy(&status));
        Ok(stream)
    }

    /// Reads until all has been seen. What is left of a line when this is dropped is read again
    /// after coming back.
    async fn read(&mut self, stream: &mut TcpStream) -> anyhow::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        let mut line = Vec::new();
        while self.seen < self.wanted {
            let length = stream.read(&mut buffer).await?;
            ensure!(length > 0, "the stream ended");
            for byte_line in
                buffer.get(..length).unwrap_or_default().split_inclusive(|b| *b == b'\n')
            {
                line.extend_from_slice(byte_line);
                if byte_line.ends_with(b"\n") {
                    self.take(&line)?;
                    line.clear();
                }
            }
        }
        Ok(())
    }

    /// Ids ascend, so that no event was seen twice.
    fn take(&mut self, line: &[u8]) -> anyhow::Result<()> {
        if line.starts_with(b"event: reset") {
            bail!("events are gone");
        }
        let Some(id) = line.strip_prefix(b"id: ") else { return Ok(()) };
        let id = std::str::from_utf8(id)?.trim_end();
        let id = match id.split_once('.') {
            Some((seq, index)) => (seq.parse()?, index.parse()?),
            None => (id.parse()?, u64::MAX),
        };
        ensure!(id > self.last, "{id:?} after {:?}", self.last);
        self.last = id;
        self.seen += 1;
        Ok(())
    }
}
