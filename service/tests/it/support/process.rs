//! The real binary as a process of its own.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};

use nightshift_client::{Client, Retry};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};

use super::soon;

pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightshift"));
    command.kill_on_drop(true).stdin(Stdio::null());
    // Compiled plugins go there, and not to those of whoever runs the tests.
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// Sends a signal by its name.
pub fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap();
    assert!(sent.success());
}

/// `nightshift serve`, on a SQLite file unless said otherwise.
pub struct Service {
    pub client: Client,
    pub server: String,
    folder: PathBuf,
    database_url: String,
    child: Child,
    log: Arc<Mutex<String>>,
    log_paused: watch::Sender<bool>,
    reading_log: JoinHandle<()>,
}

impl Service {
    /// Starts it on a file in the folder and waits until it says that it is ready.
    pub async fn start(folder: &Path, bind: &str, arguments: &[&str]) -> Self {
        let url = format!("sqlite://{}", folder.join("test.db").display());
        Self::start_with(folder, bind, &url, arguments).await
    }

    /// The same on another database.
    pub async fn start_on(folder: &Path, bind: &str, database_url: &str) -> Self {
        Self::start_with(folder, bind, database_url, &[]).await
    }

    /// The same with a time of day that the test sets.
    pub async fn start_by(clock: &MovableClock, folder: &Path) -> Self {
        let url = format!("sqlite://{}", folder.join("test.db").display());
        Self::start_in(&clock.environment(), folder, "127.0.0.1:0", &url, &[]).await
    }

    /// The same with variables.
    pub async fn start_with_variables(folder: &Path, variables: &[(&str, PathBuf)]) -> Self {
        let url = format!("sqlite://{}", folder.join("test.db").display());
        Self::start_in(variables, folder, "127.0.0.1:0", &url, &[]).await
    }

    pub async fn start_with(folder: &Path, bind: &str, url: &str, arguments: &[&str]) -> Self {
        Self::start_in(&[], folder, bind, url, arguments).await
    }

    async fn start_in(
        environment: &[(&str, PathBuf)],
        folder: &Path,
        bind: &str,
        url: &str,
        arguments: &[&str],
    ) -> Self {
        let mut child = binary()
            .envs(environment.iter().cloned())
            .arg("serve")
            .args(["--bind", bind, "--log-format", "json"])
            .args(["--database-url", url])
            .args(arguments)
            .current_dir(folder)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut text = String::new();
        let address = soon("the start of the service", async {
            loop {
                let line = lines.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("the service did not start: {text}"));
                text.push_str(&line);
                text.push('\n');
                let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
                if entry["message"] == "nightshift is ready" {
                    return entry["address"].as_str().unwrap().to_owned();
                }
            }
        })
        .await;
        let log = Arc::new(Mutex::new(text));
        let (log_paused, mut paused) = watch::channel(false);
        let reading_log = tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                while paused.wait_for(|paused| !paused).await.is_ok() {
                    tokio::select! {
                        _ = paused.wait_for(|paused| *paused) => {}
                        line = lines.next_line() => match line {
                            Ok(Some(line)) => log.lock().unwrap().extend([&line, "\n"]),
                            _ => return,
                        }
                    }
                }
            }
        });
        let is_socket = address.starts_with("unix:");
        let server = if is_socket { address } else { format!("http://{address}") };
        let client = Client::new(&server).unwrap().with_retry(Retry::never());
        let (folder, database_url) = (folder.to_owned(), url.to_owned());
        Self { client, server, folder, database_url, child, log, log_paused, reading_log }
    }

    pub fn bind(&self) -> String {
        self.server.trim_start_matches("http://").to_owned()
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// The exit status and the log.
    pub async fn exited(mut self) -> (Option<i32>, String) {
        let status = soon("the end of the service", self.child.wait()).await.unwrap();
        self.reading_log.await.unwrap();
        let log = self.log.lock().unwrap().clone();
        (status.code(), log)
    }

    /// The exit status, whether or not anybody reads the log.
    pub async fn status(mut self) -> Option<i32> {
        soon("the end of the service", self.child.wait()).await.unwrap().code()
    }

    /// Whether the log's lines are left in their pipe.
    pub fn pause_log(&self, paused: bool) {
        self.log_paused.send_replace(paused);
    }

    /// The log will not be read any more.
    pub async fn close_log(&mut self) {
        self.reading_log.abort();
        (&mut self.reading_log).await.unwrap_err();
    }

    pub fn log_so_far(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// `kill -9`, and the same service again on what is left.
    pub async fn kill_and_start_again(self) -> Self {
        let (folder, bind, url) = (self.folder.clone(), self.bind(), self.database_url.clone());
        self.kill().await;
        Self::start_with(&folder, &bind, &url, &[]).await
    }

    /// `kill -9`.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Runs a client command of the binary against this service.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = binary();
        command.args(["--server", &self.server]).args(arguments).current_dir(&self.folder);
        soon("the end of a command", command.output()).await.unwrap()
    }
}

/// The machine's time of day as one process sees it.
pub struct MovableClock(PathBuf);

impl MovableClock {
    pub fn new(folder: &Path) -> Self {
        let clock = Self(folder.join("clock"));
        clock.set_ahead("+0");
        clock
    }

    /// As libfaketime says it: `+2h`.
    pub fn set_ahead(&self, by: &str) {
        // In one step, since it is read at any moment.
        let new = self.0.with_extension("new");
        std::fs::write(&new, by).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }

    fn environment(&self) -> [(&'static str, PathBuf); 4] {
        // Not by the program `faketime`, which would catch the signals.
        let library = std::fs::read_dir("/usr/lib").unwrap().find_map(|entry| {
            let library = entry.unwrap().path().join("faketime/libfaketime.so.1");
            library.exists().then_some(library)
        });
        [
            ("LD_PRELOAD", library.expect("faketime is missing: run `make test`")),
            ("FAKETIME_TIMESTAMP_FILE", self.0.clone()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}
