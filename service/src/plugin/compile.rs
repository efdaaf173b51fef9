//! Compiles components in a process of its own. A small component may take minutes and gigabytes
//! to compile, by accident or not: there it hurts nobody.

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

/// Threads that compile: each takes of the memory.
const THREADS: &str = "2";
/// How much less this process is worth to the system than the service.
const NICENESS: i32 = 10;
/// How much longer than its processor time it may take, on a machine that has other things to do,
/// which all come first; and how long at least.
const PATIENCE: u32 = 4;
const PATIENCE_MIN: Duration = Duration::from_mins(1);
/// The exit status of a component that was tried and does not fit.
const UNFIT: u8 = 3;

/// What compiling may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of processor time.
    pub seconds: u32,
    /// Of memory.
    pub mib: u32,
}

/// Compiles into the cache, in another process.
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
        // What it does not read it does not want: its answer says why.
        let feeding = tokio::spawn(async move { stdin.write_all(&component).await });
        let output = child.wait_with_output().await?;
        feeding.abort();
        Ok(output)
    }
}

/// The numbers of POSIX.
mod posix {
    use nix::sys::signal::Signal;

    pub(super) const SIGKILL: i32 = Signal::SIGKILL as i32;
    pub(super) const SIGXCPU: i32 = Signal::SIGXCPU as i32;
    pub(super) const SIGABRT: i32 = Signal::SIGABRT as i32;
}

fn too_much(bound: &str) -> Refusal {
    Refusal::Unfit(format!("compiling it takes more than {bound}"))
}

/// The other process: reads a component from standard input.
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
        // The service would compile it by itself, with no bounds.
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
