//! `kill -9` at random moments: what was acknowledged is done, and recorded once.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use diesel::{Connection, RunQueryDsl, SqliteConnection, sql_query, sql_types::Text};
use nightshift::entropy::Entropy;
use nightshift_client::{
    Client, EnqueueOptions,
    types::{Backoff, ExecutorRequest, Task, TaskErrorKind, TaskRequest, TaskStatus},
};
use uuid::Uuid;

use crate::support::{
    SOON,
    app::SECRET,
    database::Database,
    executor::{Reply, TestExecutor},
    process::Service,
    soon, until,
};

/// 16 clients enqueue while an executor works, and the service is killed ten times.
async fn ten_kills(folder: &Path, database_url: &str) {
    const KILLS: usize = 10;
    const CLIENTS: usize = 16;
    let runs: Arc<Mutex<HashMap<Uuid, u32>>> = Arc::default();
    let executor = TestExecutor::start({
        let runs = runs.clone();
        move |call| {
            *runs.lock().unwrap().entry(call.message().data.task_id).or_default() += 1;
            Reply::ok("1")
        }
    })
    .await;
    let mut service = Service::start_on(folder, "127.0.0.1:0", database_url).await;
    let request = ExecutorRequest {
        task_paths: vec!["*".to_owned()],
        url: Some(executor.url()),
        secret: Some(SECRET.to_owned()),
        lease_seconds: Some(1),
        ..ExecutorRequest::default()
    };
    service.client.put_executor("exec", &request).await.unwrap();
    let acknowledged: Arc<Mutex<Vec<Uuid>>> = Arc::default();
    let stop = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, acknowledged, stop) =
                (service.client.clone(), acknowledged.clone(), stop.clone());
            tokio::spawn(async move {
                let backoff = Backoff { initial_seconds: Some(0.0), ..Backoff::default() };
                let request = TaskRequest {
                    max_attempts: Some(50),
                    backoff: Some(backoff),
                    ..TaskRequest::new("a.b")
                };
                while stop.load(Ordering::SeqCst) == 0 {
                    match client.create_task(&request, &EnqueueOptions::default()).await {
                        Ok(enqueued) => acknowledged.lock().unwrap().push(enqueued.task.id),
                        // The service is down at the moment.
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
            })
        })
        .collect();
    let entropy = Entropy::from_seed(10);
    for _ in 0..KILLS {
        let more = 50 + usize::from(u16::from_be_bytes(entropy.bytes()) % 400);
        let wanted = acknowledged.lock().unwrap().len() + more;
        until("enough acknowledged tasks", || async {
            (acknowledged.lock().unwrap().len() >= wanted).then_some(())
        })
        .await;
        service = service.kill_and_start_again().await;
    }
    stop.store(1, Ordering::SeqCst);
    for client in clients {
        soon("the end of a client", client).await.unwrap();
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= KILLS * 50);
    for id in &acknowledged {
        let task = is_done_once(&service.client, *id).await;
        let runs = runs.lock().unwrap().get(id).copied().unwrap_or(0);
        assert!(runs >= 1 && runs <= task.attempts, "{runs} runs of {task:?}");
    }
    let running =
        nightshift_client::TaskFilter { status: Some(TaskStatus::Running), ..Default::default() };
    assert!(service.client.list_tasks(&running).await.unwrap().items.is_empty());
    service.signal("TERM");
    assert_eq!(service.exited().await.0, Some(0));
}

/// The task succeeded, and each attempt before was recorded as lost, once.
async fn is_done_once(client: &Client, id: Uuid) -> Task {
    let task = client.get_task(id, Some(SOON)).await.unwrap();
    assert_eq!(task.status, TaskStatus::Successful, "{task:?}");
    assert!(task.errors.iter().all(|error| error.kind == TaskErrorKind::Lost), "{task:?}");
    assert_eq!(task.attempts as usize, 1 + task.errors.len(), "one outcome an attempt");
    task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_task_is_lost_by_ten_kills_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.db");
    ten_kills(folder.path(), &format!("sqlite://{}", file.display())).await;
    assert_eq!(integrity(&file), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_task_is_lost_by_ten_kills_postgres() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::postgres();
    ten_kills(folder.path(), &database.url()).await;
}

fn integrity(file: &std::path::Path) -> String {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        integrity_check: String,
    }
    let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    let row: Row = sql_query("PRAGMA integrity_check").get_result(&mut connection).unwrap();
    row.integrity_check
}
