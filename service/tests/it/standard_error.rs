//! A log that nobody reads, or that cannot be written, holds up nothing and ends nothing.

use std::process::Stdio;

use diesel::connection::SimpleConnection;
use nightshift_client::{
    EnqueueOptions, TaskFilter,
    types::{TaskBatch, TaskRequest},
};
use tokio::{io::AsyncReadExt, process::Command};

use crate::support::{
    commands::Fixture,
    database::hold_writing,
    process::{Service, binary},
    soon, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    service.close_log().await;
    // The writer says that the database is away, and the log that it cannot be written.
    let mut other = hold_writing(&format!("sqlite://{}", folder.path().join("test.db").display()));
    let create = || async {
        let options = EnqueueOptions::default();
        service.client.create_task(&TaskRequest::new("a.b"), &options).await
    };
    let refused = soon("a refusal", create()).await.unwrap_err();
    assert!(refused.is_transient(), "{refused:?}");
    other.batch_execute("COMMIT").unwrap();
    until("a task that is taken", || async { create().await.ok() }).await;
    service.client.get_readiness().await.unwrap();
    service.signal("TERM");
    assert_eq!(service.status().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("nightshift.toml"), "log = \"trace\"\n").unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    service.pause_log(true);
    // Each leaves lines, of which a pipe takes 64 KiB and the service 1 MiB.
    let ask = async || {
        for _ in 0..200 {
            service.client.list_tasks(&TaskFilter::default()).await.unwrap();
        }
    };
    for _ in 0..5 {
        soon("answers", ask()).await;
    }
    service.pause_log(false);
    until("a word of what is missing", || async {
        service.client.get_readiness().await.unwrap();
        service.log_so_far().contains("lines of this log are missing").then_some(())
    })
    .await;
    service.pause_log(true);
    ask().await;
    service.signal("TERM");
    assert_eq!(service.status().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_log_nobody_reads_goes_on_and_stops() {
    const TASKS: usize = 120;
    let fixture = Fixture::start("echo 1", |_| {}).await;
    // Which makes long lines.
    let path = "a".repeat(200);
    let batch = TaskBatch { tasks: vec![TaskRequest::new(path); TASKS] };
    fixture.client().create_tasks(&batch).await.unwrap();
    let mut worker = fixture.command(binary(), &["--concurrency", "8"]).spawn().unwrap();
    until("the end of all tasks", || async {
        let stats = fixture.client().get_stats().await.unwrap();
        (stats.ended.successful == TASKS as u64).then_some(())
    })
    .await;
    let pid = worker.id().unwrap().to_string();
    std::process::Command::new("kill").arg(&pid).status().unwrap();
    let status = soon("the end of a worker", worker.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    let mut log = Vec::new();
    worker.stderr.take().unwrap().read_to_end(&mut log).await.unwrap();
    assert!(log.len() >= 60 * 1024, "a pipe full: {}", log.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_output_nobody_reads_ends_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let run = async |arguments: &[&str], stderr: Stdio| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command: Command = binary();
        command.args(["--server", &service.server]).args(arguments).stdout(writer).stderr(stderr);
        let output = command.spawn().unwrap().wait_with_output();
        let output = soon("the end of a command", output).await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let migrate = format!("sqlite://{}", folder.path().join("other.db").display());
    for arguments in [
        &["openapi"][..],
        &["completions", "bash"],
        &["migrate", "--database-url", &migrate],
        &["list"],
        &["--json", "stats"],
    ] {
        let ended = run(arguments, Stdio::piped()).await;
        assert_eq!(ended, (Some(141), String::new()), "{arguments:?}");
    }
    // Its answer is the status.
    assert_eq!(run(&["health"], Stdio::piped()).await, (Some(0), String::new()));
    // Nor does an error need somebody to tell it to.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(run(&["executor", "get", "nobody"], writer.into()).await.0, Some(2));
}
