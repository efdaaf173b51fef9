//! Compiles components in another process, with limits on processor time and memory. Even a small
//! component may take minutes and gigabytes to compile, by accident or on purpose; in the other
//! process it does not harm the service.

use std::{
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitCode, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use nix::sys::resource::{Resource, setrlimit};
use tokio::{io::AsyncWriteExt, process::Command};

use super::Refusal;

/// Threads that compile. Each of them needs memory.
const THREADS: &str = "2";
/// The niceness of the compiling process, so that the service gets the processor first.
const NICENESS: i32 = 10;
/// The compiler may take this many times its processor time by the clock, since on a busy machine
/// all other processes come first, and this long at least.
const PATIENCE: u32 = 4;
const PATIENCE_MIN: Duration = Duration::from_mins(1);
/// The exit status that says: the component was examined and is not a valid plugin.
const UNFIT: u8 = 3;

/// The resources that compiling a component may use.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Seconds of processor time.
    pub seconds: u32,
    /// MiB of memory.
    pub mib: u32,
}

/// One compilation in another process, whose result is stored in the cache.
pub(super) struct Job<'a> {
    pub(super) program: &'a Path,
    pub(super) cache: &'a Path,
    pub(super) bounds: Bounds,
}

impl Job<'_> {
    pub(super) async fn compile(&self, component: &Bytes) -> Result<(), Refusal> {
        let timeout = Duration::from_secs(self.bounds.seconds.into()) * PATIENCE;
        let timeout = timeout.max(PATIENCE_MIN);
        let output = match tokio::time::timeout(timeout, self.feed(component)).await {
            Ok(output) => output.context("a plugin cannot be compiled")?,
            Err(_elapsed) => return Err(too_much(&format!("{} s", timeout.as_secs()))),
        };
        if output.status.success() {
            return Ok(());
        }
        if output.status.code() == Some(i32::from(UNFIT)) {
            let said = String::from_utf8_lossy(&output.stdout);
            return Err(Refusal::Unfit(said.trim().to_owned()));
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        match output.status.signal() {
            Some(posix::SIGKILL | posix::SIGXCPU) => {
                Err(too_much(&format!("{} s of processor time", self.bounds.seconds)))
            }
            Some(posix::SIGABRT) if complaint.contains("memory allocation") => {
                Err(too_much(&format!("{} MiB of memory", self.bounds.mib)))
            }
            _ => {
                let status = output.status;
                Err(anyhow!("the compiler of plugins ended with {status}: {complaint}").into())
            }
        }
    }

    /// Runs the compiler with the component as its input.
    async fn feed(&self, component: &Bytes) -> anyhow::Result<Output> {
        let mut child = Command::new(self.program)
            .arg("compile-plugin")
            .arg(self.cache)
            .arg(self.bounds.seconds.to_string())
            .arg(self.bounds.mib.to_string())
            .env_clear()
            .env("RAYON_NUM_THREADS", THREADS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("the compiler has no input")?;
        let component = component.clone();
        // Write in a task of its own, and ignore errors: the compiler may end without reading all
        // input, and its output then says why.
        let feeding = tokio::spawn(async move { stdin.write_all(&component).await });
        let output = child.wait_with_output().await?;
        feeding.abort();
        Ok(output)
    }
}

/// Numbers of signals, to compare with an exit status.
mod posix {
    use nix::sys::signal::Signal;

    pub(super) const SIGKILL: i32 = Signal::SIGKILL as i32;
    pub(super) const SIGXCPU: i32 = Signal::SIGXCPU as i32;
    pub(super) const SIGABRT: i32 = Signal::SIGABRT as i32;
}

fn too_much(bound: &str) -> Refusal {
    Refusal::Unfit(format!("compiling it takes more than {bound}"))
}

/// Runs in the compiling process: reads a component from standard input and compiles it into the
/// cache.
pub fn main(cache: &Path, bounds: Bounds) -> anyhow::Result<ExitCode> {
    rustix::process::nice(NICENESS)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let (seconds, bytes) = (bounds.seconds.into(), u64::from(bounds.mib) * 1024 * 1024);
    setrlimit(Resource::RLIMIT_CPU, seconds, seconds)?;
    setrlimit(Resource::RLIMIT_AS, bytes, bytes)?;
    let mut component = Vec::new();
    std::io::stdin().lock().read_to_end(&mut component)?;
    match nightshift_sandbox::compile(&component, cache) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        // Without the machine code in the cache, the service would compile the component itself,
        // without limits.
        Ok(false) => bail!(
            "the machine code cannot be kept in {}: may this user write there, and is there room?",
            cache.display()
        ),
        Err(unfit) => {
            writeln!(std::io::stdout().lock(), "{unfit}")?;
            Ok(ExitCode::from(UNFIT))
        }
    }
}
