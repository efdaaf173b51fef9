//! How long runs take, and how much memory.

use std::{
    fmt,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};

/// Runs of one task in fresh instances.
pub(super) struct Measured {
    /// How long each took, shortest first.
    runs: Vec<Duration>,
    whole: Duration,
    at_once: usize,
    /// The most memory that the process has had, as far as the system says.
    peak_mib: Option<f64>,
}

/// Runs so often, so many at once.
pub(super) async fn measure<F: Future>(
    times: u32,
    at_once: usize,
    run: impl Fn() -> F,
) -> Measured {
    let begin = Instant::now();
    let one = || async {
        let begin = Instant::now();
        run().await;
        begin.elapsed()
    };
    let mut runs: Vec<Duration> =
        stream::iter(0..times).map(|_| one()).buffer_unordered(at_once).collect().await;
    let whole = begin.elapsed();
    runs.sort();
    Measured { runs, whole, at_once, peak_mib: peak_mib() }
}

fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}

impl Measured {
    /// The run that so large a part of all runs does not exceed.
    fn quantile(&self, part: usize, of: usize) -> Duration {
        let last = self.runs.len().saturating_sub(1);
        self.runs.get(last * part / of).copied().unwrap_or_default()
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = u32::try_from(self.runs.len()).unwrap_or(u32::MAX).max(1);
        let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
        write!(
            f,
            "{number} runs, {} at once: mean {:.3} ms, median {:.3} ms, p99 {:.3} ms, {:.0} a second",
            self.at_once,
            milliseconds(self.runs.iter().sum::<Duration>() / number),
            milliseconds(self.quantile(1, 2)),
            milliseconds(self.quantile(99, 100)),
            f64::from(number) / self.whole.as_secs_f64(),
        )?;
        self.peak_mib.map_or(Ok(()), |mib| write!(f, ", at most {mib:.1} MiB of memory"))
    }
}
