//! `nightshift watch` and `nightshift top`.

use std::process::Stdio;

use nightshift_client::types::{
    ErrorReport, FinishRequest, LogLevel, LogLineRequest, Progress, RenewRequest, TaskRequest,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::support::{
    app::{Builder, TestApp, value},
    process::binary,
    soon,
};

/// A command that goes on, and what it prints.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(app: &TestApp, arguments: &[&str]) -> Self {
        let mut command = binary();
        command.args(["--server", &app.server]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line, without its time.
    async fn line(&mut self) -> String {
        let line = soon("a line", self.lines.next_line()).await.unwrap().unwrap();
        line.split_once("Z ").map_or(line.clone(), |(_, rest)| rest.to_owned())
    }

    async fn exited(mut self) -> Option<i32> {
        soon("the end of the command", self.child.wait()).await.unwrap().code()
    }
}

async fn run(app: &TestApp, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = binary();
    command.args(["--server", &app.server]).args(arguments);
    let output = soon("the end of a command", command.output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_watched_to_its_end() {
    let app = Builder::sqlite().start();
    let worker = app.register_workers("tom", |_| {}).await;
    let task = TaskRequest { max_attempts: Some(1), ..TaskRequest::new("a.b") };
    let id = app.enqueue_with(task).await.id;
    let mut watch = Running::start(&app, &["watch", &id.to_string()]);
    assert_eq!(watch.line().await, "enqueued a.b in default");
    let lease = worker.next().await;
    assert_eq!(watch.line().await, "started attempt 1 by w1");
    let progress = Progress { fraction: Some(0.4), message: Some("2 of 5".to_owned()) };
    let renewal = RenewRequest { progress: Some(progress), ..RenewRequest::default() };
    app.client.renew_lease(&lease.token, &renewal).await.unwrap();
    assert_eq!(watch.line().await, "40 % 2 of 5");
    let line = |text: &str| LogLineRequest {
        at: None,
        level: LogLevel::Warning,
        message: text.to_owned(),
    };
    let renewal = RenewRequest { logs: vec![line("one"), line("two")], ..RenewRequest::default() };
    app.client.renew_lease(&lease.token, &renewal).await.unwrap();
    assert_eq!(watch.line().await, "WARNING one");
    assert_eq!(watch.line().await, "WARNING two");
    let error = ErrorReport { message: Some("no luck".to_owned()), ..ErrorReport::default() };
    let end = FinishRequest { error: Some(error), ..FinishRequest::default() };
    worker.finish(&lease, end).await.unwrap();
    assert_eq!(watch.line().await, "FAILED: no luck");
    assert_eq!(watch.exited().await, Some(1));
    let (code, out, _) = run(&app, &["watch", &id.to_string(), "--json"]).await;
    assert_eq!(code, Some(1));
    let types: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone())
        .collect();
    assert_eq!(types, ["task.enqueued", "task.started", "task.log", "task.finished"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_when_the_service_comes_back() {
    let mut builder = Builder::sqlite();
    builder.config.bind = "127.0.0.1:0".parse().unwrap();
    let app = builder.start();
    let worker = app.register_workers("tom", |_| {}).await;
    let id = app.enqueue("a.b").await.id;
    let mut watch = Running::start(&app, &["watch", &id.to_string()]);
    assert_eq!(watch.line().await, "enqueued a.b in default");
    let address = app.server.strip_prefix("http://").unwrap().parse().unwrap();
    let mut builder = app.stop().await;
    builder.config.bind = address;
    let _app = builder.start();
    worker.succeed(&worker.next().await).await;
    assert_eq!(watch.line().await, "started attempt 1 by w1", "and not from the beginning");
    assert_eq!(watch.line().await, "SUCCESSFUL");
    assert_eq!(watch.exited().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tasks_are_watched_or_some() {
    let app = Builder::sqlite().start();
    let mut watch =
        Running::start(&app, &["watch", "--task-path", "a.*", "--type", "task.finished"]);
    // Again and again, as nothing says when the command has begun to watch.
    let mut again = tokio::time::interval(std::time::Duration::from_millis(50));
    let happening = async {
        loop {
            again.tick().await;
            app.enqueue("c.d").await;
            let id = app.enqueue("a.b").await.id;
            app.client.cancel_task(id, false).await.unwrap();
        }
    };
    tokio::select! {
        line = watch.line() => assert_eq!(line, "CANCELLED: the task was cancelled"),
        () = happening => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_watched_is_said() {
    let app = Builder::sqlite().start();
    let unknown = "01a216c7-e3ff-71bd-bf1e-c7a507ba1f4f";
    let (code, _, err) = run(&app, &["watch", unknown]).await;
    assert_eq!((code, err.as_str()), (Some(2), "error: task_not_found: no task has this id\n"));
    let (code, _, err) = run(&app, &["watch", unknown, "--queue", "q"]).await;
    assert_eq!(code, Some(2));
    assert!(err.contains("cannot be used with"), "{err}");
    let (code, _, err) = run(&app, &["watch", "--type", "task.lag"]).await;
    assert_eq!(code, Some(2));
    assert!(err.contains("unknown variant `task.lag`"), "{err}");
    let (code, _, err) = run(&app, &["watch", unknown, "--server", "http://127.0.0.1:9"]).await;
    assert_eq!(code, Some(2));
    assert!(err.starts_with("error: the service cannot be reached"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_shows_what_runs() {
    let app = Builder::sqlite().start();
    let worker = app.register_workers("tom", |_| {}).await;
    let id = app.enqueue("a.b").await.id;
    app.enqueue("c.d").await;
    let lease = worker.next().await;
    let (code, out, _) = run(&app, &["top", "--once"]).await;
    assert_eq!(code, Some(0));
    assert!(out.starts_with("1 due (0 unrouted), 0 scheduled, 1 running; "), "{out}");
    let row = out.lines().find(|line| line.contains(&id.to_string())).unwrap();
    assert!(row.contains("a.b") && row.contains("default"), "{out}");
    worker.finish(&lease, value("1")).await.unwrap();
    let (_, out, _) = run(&app, &["top", "--json"]).await;
    let top: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&top["running"], &top["stats"]["due"]), (&serde_json::json!([]), &1.into()));
}
