//! Runs a command: input, output, and the way to stop it.

use std::{
    env,
    future::Future,
    io,
    os::fd::OwnedFd,
    pin::Pin,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use command_fds::{CommandFdExt, FdMapping};
use nightshift_client::{types::LogLevel, worker::Context};
use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::unix::pipe,
    process::{Child, Command},
};

use super::{
    family::{Family, Kin},
    tail::Tail,
};

/// Where a command writes its result, if it wants to keep it apart from its output.
const RESULT_FD: i32 = 3;
/// Variables that begin so are the worker's: its token is among them, and secrets of a service that
/// shares its environment may be.
const OWN_VARIABLES: &str = "NIGHTSHIFT_";
/// The one of them that commands get.
const SHARED_VARIABLE: &str = "NIGHTSHIFT_SERVER";
/// Bytes of a result, or of one line of output, that are looked at; the service has a bound of
/// its own.
const RESULT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long what a command has started may hold its output open when it has ended itself.
const LEFTOVERS: Duration = Duration::from_secs(1);

/// A command that runs, and all that it has started.
pub(super) struct Process {
    child: Child,
    kin: Kin,
    input: Vec<u8>,
    result: pipe::Receiver,
}

/// How a command ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// What it wrote to file descriptor 3.
    pub(super) result: Vec<u8>,
    /// Its last line on standard output that was not empty.
    pub(super) last_line: Option<String>,
    /// Its last lines on standard error.
    pub(super) last_errors: Tail,
}

impl Process {
    pub(super) fn start(
        family: &Arc<Family>,
        command: &[String],
        environment: Vec<(&'static str, String)>,
        input: Vec<u8>,
    ) -> io::Result<Self> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| io::Error::other("there is no command"))?;
        let (result, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (name, _) in env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with(OWN_VARIABLES) && name_text != SHARED_VARIABLE {
                command.env_remove(&name);
            }
        }
        command.envs(environment);
        let writer = FdMapping { parent_fd: OwnedFd::from(writer), child_fd: RESULT_FD };
        command.fd_mappings(vec![writer]).map_err(io::Error::other)?;
        let (child, kin) = family.start(&mut command)?;
        // Its end of the pipe has to be its alone: the result ends when it closes it.
        drop(command);
        Ok(Self {
            child,
            kin,
            input,
            result: pipe::Receiver::from_owned_fd(OwnedFd::from(result))?,
        })
    }

    /// What stops it from outside.
    pub(super) fn stop(&self, kill_after: Duration) -> Stop {
        Stop { kin: self.kin.clone(), kill_after }
    }

    /// Returns when it has ended and said everything. What it leaves running gets no time: it is
    /// killed, and if it has hidden from that, it is not listened to any more.
    pub(super) async fn ended(&mut self, context: &Context) -> io::Result<Ended> {
        let log = |line: &str| context.log(LogLevel::Info, line);
        let Self { child, kin, input, result } = self;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut last_line = None;
        let mut last_errors = Tail::default();
        let mut written = Vec::new();
        let status = {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // It need not read it.
                    stdin.write_all(input).await.ok();
                }
                io::Result::Ok(())
            };
            let keep_last = lines(stdout, |line| {
                if let Some(before) = last_line.replace(line) {
                    log(&before);
                }
            });
            let errors = lines(stderr, |line| {
                log(&line);
                last_errors.push(&line);
            });
            let mut result = result.take(RESULT_BYTES_MAX);
            let read = async { result.read_to_end(&mut written).await.map(drop) };
            let mut said =
                std::pin::pin!(async { tokio::try_join!(feed, keep_last, errors, read) });
            let status = tokio::select! {
                everything = &mut said => {
                    everything?;
                    None
                }
                status = child.wait() => Some(status?),
            };
            if status.is_some() {
                silence(kin, said).await?;
            }
            status
        };
        let status = match status {
            Some(status) => status,
            None => child.wait().await?,
        };
        Ok(Ended { status, result: written, last_line, last_errors })
    }
}

/// Waits a little for the rest of the output, and kills those who hold it open.
async fn silence<T>(
    kin: &Kin,
    mut said: Pin<&mut impl Future<Output = io::Result<T>>>,
) -> io::Result<()> {
    for _ in 0..2 {
        if let Ok(everything) = tokio::time::timeout(LEFTOVERS, &mut said).await {
            return everything.map(drop);
        }
        kin.is_over();
    }
    Ok(())
}

/// Calls `each` for every line that is not empty; what is no UTF-8 is replaced.
async fn lines<S: AsyncRead + Unpin>(
    source: Option<S>,
    mut each: impl FnMut(String),
) -> io::Result<()> {
    let Some(source) = source else {
        return Ok(());
    };
    let mut source = BufReader::new(source);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut source).take(RESULT_BYTES_MAX).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if !text.trim().is_empty() {
            each(text.to_owned());
        }
    }
}

/// Stops a command and all that it has started.
pub(super) struct Stop {
    kin: Kin,
    kill_after: Duration,
}

impl Stop {
    /// Asks it to stop, and does not ask any more when its time is over. Never returns.
    pub(super) async fn gently(self) -> std::convert::Infallible {
        self.kin.send(Signal::TERM);
        tokio::time::sleep(self.kill_after).await;
        self.kin.send(Signal::KILL);
        std::future::pending().await
    }
}

impl Drop for Process {
    /// What a command left running must not outlive its task.
    fn drop(&mut self) {
        self.kin.forget();
    }
}
