//! A service, and `nightshift worker` processes that run a script for each task.

use std::{path::Path, process::Stdio};

use nightshift_client::{
    Client, EnqueueOptions,
    types::{ExecutorKind, ExecutorRequest, LogList, Task, TaskRequest},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use uuid::Uuid;

use super::{
    SOON,
    process::{Service, binary},
    soon, until,
};

/// A service, and a script that its workers run.
pub struct Fixture {
    pub folder: tempfile::TempDir,
    pub service: Service,
}

impl Fixture {
    pub async fn start(script: &str, change: impl FnOnce(&mut ExecutorRequest)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
        let mut request = ExecutorRequest {
            kind: ExecutorKind::Worker,
            task_paths: vec!["*".to_owned()],
            ..ExecutorRequest::default()
        };
        change(&mut request);
        service.client.put_executor("sh", &request).await.unwrap();
        std::fs::write(folder.path().join("script"), script).unwrap();
        Self { folder, service }
    }

    pub fn client(&self) -> &Client {
        &self.service.client
    }

    /// Starts a worker and waits until it takes tasks.
    pub async fn worker(&self, arguments: &[&str]) -> Worker {
        self.worker_by(binary(), arguments).await
    }

    /// The same where the binary is started in another way.
    pub async fn worker_by(&self, binary: Command, arguments: &[&str]) -> Worker {
        let mut child = self.command(binary, arguments).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        soon("the start of a worker", async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains("taking tasks") {
                    return;
                }
            }
            panic!("the worker did not start");
        })
        .await;
        let log = tokio::spawn(async move {
            let mut text = String::new();
            while let Ok(Some(line)) = lines.next_line().await {
                text.push_str(&line);
                text.push('\n');
            }
            text
        });
        Worker { child, log }
    }

    /// A worker that is to be started.
    pub fn command(&self, mut binary: Command, arguments: &[&str]) -> Command {
        binary
            .args(["--server", &self.service.server, "worker", "--executor", "sh"])
            .args(["--log-format", "json"])
            .args(arguments)
            .args(["--", "sh", "script"])
            .current_dir(self.folder.path())
            .stderr(Stdio::piped());
        binary
    }

    pub async fn enqueue(&self, request: TaskRequest) -> Uuid {
        self.client().create_task(&request, &EnqueueOptions::default()).await.unwrap().task.id
    }

    pub async fn run(&self, request: TaskRequest) -> Task {
        let id = self.enqueue(request).await;
        self.end(id).await
    }

    pub async fn end(&self, id: Uuid) -> Task {
        let task = self.client().get_task(id, Some(SOON)).await.unwrap();
        assert!(task.status.is_finished(), "{task:?}");
        task
    }

    pub async fn log(&self, id: Uuid) -> Vec<String> {
        let LogList { items, .. } = self.client().get_task_logs(id, None, None).await.unwrap();
        items.into_iter().map(|line| line.message).collect()
    }

    /// Waits for a file that the script writes.
    pub async fn file(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        until("a file", || async { written(&path) }).await
    }
}

fn written(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
}

pub struct Worker {
    pub child: Child,
    log: tokio::task::JoinHandle<String>,
}

impl Worker {
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    pub async fn exited(mut self) -> (Option<i32>, String) {
        let status = soon("the end of a worker", self.child.wait()).await.unwrap();
        (status.code(), self.log.await.unwrap())
    }
}

pub fn once(path: &str) -> TaskRequest {
    TaskRequest { max_attempts: Some(1), ..TaskRequest::new(path) }
}

/// A process is there, and is not just waiting to be buried.
pub fn is_alive(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim()));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}
