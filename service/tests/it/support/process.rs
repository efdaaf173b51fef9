//! The real binary as a process of its own.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use nightshift_client::{Client, Retry};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
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
    log: tokio::task::JoinHandle<String>,
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

    pub async fn start_with(folder: &Path, bind: &str, url: &str, arguments: &[&str]) -> Self {
        let mut child = binary()
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
        let log = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                text.push_str(&line);
                text.push('\n');
            }
            text
        });
        let server = format!("http://{address}");
        let client = Client::new(&server).unwrap().with_retry(Retry::never());
        Self { client, server, folder: folder.to_owned(), database_url: url.to_owned(), child, log }
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
        (status.code(), self.log.await.unwrap())
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
