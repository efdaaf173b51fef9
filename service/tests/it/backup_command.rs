//! Backups that are taken while a service works, and services that start from them.

use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use nightshift_client::{
    EnqueueOptions, TaskFilter,
    types::{TaskRequest, TaskStatus},
};
use tokio::{
    process::Command,
    sync::{Semaphore, watch},
};
use uuid::Uuid;

use crate::support::{
    app::{Builder, TestApp, Worker},
    database::Database,
    process::binary,
    soon,
};

const CLIENTS: usize = 4;
const TASKS: usize = 300;

/// Several clients enqueue, and a worker works, while `backup` is taken; `restored` is what a
/// service starts on that has nothing but the backup.
async fn nothing_is_lost(
    database: Database,
    backup: impl AsyncFnOnce(&str),
    restore: impl AsyncFnOnce() -> Database,
) {
    let app = Builder::on(database).start();
    let worker = app.register_workers("tom", |_| {}).await;
    let (acknowledged, stop) =
        (Arc::new(std::sync::Mutex::new(Vec::new())), watch::Sender::new(()));
    let room = Arc::new(Semaphore::new(2 * TASKS));
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, acknowledged, room) =
                (app.client.clone(), Arc::clone(&acknowledged), Arc::clone(&room));
            tokio::spawn(async move {
                while let Ok(permit) = room.try_acquire() {
                    permit.forget();
                    let request = TaskRequest::new("a.b");
                    let made = client.create_task(&request, &EnqueueOptions::default()).await;
                    acknowledged.lock().unwrap().push(made.unwrap().task.id);
                }
            })
        })
        .collect();
    clients.push(tokio::spawn(work(worker, stop.subscribe())));
    let enough = || async { (acknowledged.lock().unwrap().len() >= TASKS).then_some(()) };
    crate::support::until("enough tasks", enough).await;
    let before: Vec<Uuid> = acknowledged.lock().unwrap().clone();
    backup(&app.database_url()).await;
    drop(stop);
    for client in clients {
        soon("the end of a client", client).await.unwrap();
    }
    let _stopped = app.stop().await;

    let app = Builder::on(restore().await).start();
    app.client.get_readiness().await.unwrap();
    let mut there = all(&app).await;
    let count = there.len();
    there.sort();
    there.dedup();
    assert_eq!(there.len(), count, "none is there twice");
    for id in &before {
        assert!(there.contains(id), "{id} was acknowledged before the backup");
    }
    // What ran at that moment is lost with its worker; all others end by a new one.
    let worker = Worker { client: app.client.clone(), executor: "tom".into(), id: "w2".into() };
    let ready = TaskFilter { status: Some(TaskStatus::Ready), ..TaskFilter::default() };
    if let Some(task) = app.client.list_tasks(&ready).await.unwrap().items.pop() {
        worker.succeed(&worker.next().await).await;
        app.task(task.id).await;
    }
}

async fn work(worker: Worker, stop: watch::Receiver<()>) {
    while stop.has_changed().is_ok() {
        for lease in worker.lease(10).await {
            worker.succeed(&lease).await;
        }
    }
}

async fn all(app: &TestApp) -> Vec<Uuid> {
    let mut filter = TaskFilter { limit: Some(1_000), ..TaskFilter::default() };
    let mut ids = Vec::new();
    loop {
        let page = app.client.list_tasks(&filter).await.unwrap();
        ids.extend(page.items.iter().map(|task| task.id));
        match page.next_cursor {
            Some(next) => filter.cursor = Some(next),
            None => return ids,
        }
    }
}

async fn backed_up(url: &str, file: &Path) -> std::process::Output {
    let mut command = binary();
    command.arg("backup").arg(file).args(["--database-url", url]);
    soon("the end of a backup", command.output()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_has_all_that_was_acknowledged_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.db");
    let backup = async |url: &str| {
        let output = backed_up(url, &file).await;
        assert!(output.status.success(), "{output:?}");
    };
    let url = format!("sqlite://{}", file.display());
    nothing_is_lost(Database::sqlite(), backup, async || Database::Borrowed(url)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_has_all_that_was_acknowledged_postgres() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.dump");
    let run = async |command: &mut Command| {
        let output = soon("the end of a command", command.output()).await.unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let backup = async |url: &str| {
        run(Command::new("pg_dump").args(["--format=custom", "--file"]).arg(&file).arg(url)).await;
    };
    let restore = async || {
        let database = Database::postgres();
        let target = format!("--dbname={}", database.url());
        run(Command::new("pg_restore").args(["--exit-on-error", &target]).arg(&file)).await;
        database
    };
    nothing_is_lost(Database::postgres(), backup, restore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_backed_up_is_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    std::fs::write(&there, "mine").unwrap();
    let sqlite = Database::sqlite();
    let missing = sqlite.url();
    let app = Builder::on(Database::sqlite()).start();
    for (url, file, words) in [
        (missing.as_str(), folder.path().join("new"), "does not exist"),
        (&app.database_url(), there.clone(), "exists already"),
        (&app.database_url(), folder.path().join("none/new"), "cannot write into"),
        ("postgres://127.0.0.1:1/x", folder.path().join("new"), "pg_dump"),
    ] {
        let output = backed_up(url, &file).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(words) && text.lines().count() == 1, "{text}");
    }
    assert_eq!(std::fs::read_to_string(&there).unwrap(), "mine");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left lying");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_file_is_for_its_owner_alone_sqlite() {
    let database = Database::sqlite();
    let url = database.url();
    let app = Builder::on(database).start();
    app.enqueue("a").await;
    let file = url.strip_prefix("sqlite://").unwrap();
    for end in ["", "-wal", "-shm"] {
        let mode = std::fs::metadata(format!("{file}{end}")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{end}");
    }
}
