//! What PostgreSQL alone can do to the service: go away and come back.

use diesel::{Connection, PgConnection, RunQueryDsl, sql_query};
use nightshift_client::types::{ErrorCode, TaskStatus};
use tokio::sync::Semaphore;

use crate::support::{
    app::Builder,
    executor::{Reply, TestExecutor},
    until,
};

/// Cuts every connection to the database but this one.
fn cut_connections(url: &str) {
    let mut connection = PgConnection::establish(url).unwrap();
    sql_query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .execute(&mut connection)
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c45_b14_after_lost_connections_it_goes_on_and_keeps_what_was_done() {
    let builder = Builder::postgres();
    let url = builder.config.database_url.clone();
    let app = builder.start();
    let gate = std::sync::Arc::new(Semaphore::new(0));
    let executor = TestExecutor::start({
        let gate = gate.clone();
        move |_| Reply::Later(gate.clone(), Box::new(Reply::ok("1")))
    })
    .await;
    app.register(&executor).await;
    let id = app.enqueue("a.b").await.id;
    executor.called(1).await;
    cut_connections(&url);
    // The executor answers just now.
    gate.add_permits(1);
    let task = until("the end being read again", || async {
        let task = app.client.get_task(id, None).await;
        task.ok().filter(|task| task.status.is_finished())
    })
    .await;
    assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
    cut_connections(&url);
    // Whoever comes first finds the connection gone, be it this request or a sweep.
    if let Err(refused) = app.client.get_readiness().await {
        assert_eq!(refused.code(), Some(ErrorCode::Unavailable), "{refused:?}");
    }
    until("being ready again", || async { app.client.get_readiness().await.ok() }).await;
    gate.add_permits(1);
    let next = app.enqueue("a.b").await.id;
    assert_eq!(app.end(next).await.status, TaskStatus::Successful);
}
