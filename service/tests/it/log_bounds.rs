//! Log lines leave the writer its time, and take no more room than they may.

use diesel::{
    Connection, PgConnection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query,
    sql_types::BigInt,
};
use nightshift_client::types::{Lease, LogLevel, LogLineRequest, RenewRequest};

use crate::support::{
    app::{TestApp, Worker},
    on_both_engines, until,
};

const LINE_BYTES: usize = 8 * 1024;
const MIB: i64 = 1024 * 1024;

#[derive(QueryableByName)]
struct Sum {
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

/// What the table of events holds.
fn event_bytes(app: &TestApp) -> i64 {
    let url = app.database_url();
    let query =
        sql_query("SELECT CAST(coalesce(sum(length(lines)), 0) AS BIGINT) AS bytes FROM events");
    let sum: Sum = match url.strip_prefix("sqlite://") {
        Some(file) => query.get_result(&mut SqliteConnection::establish(file).unwrap()).unwrap(),
        None => query.get_result(&mut PgConnection::establish(&url).unwrap()).unwrap(),
    };
    sum.bytes
}

/// Long lines, each of which says its number.
fn lines(count: usize) -> RenewRequest {
    let line = |number| LogLineRequest {
        at: None,
        level: LogLevel::Info,
        message: format!("{number:0LINE_BYTES$}"),
    };
    RenewRequest { logs: (0..count).map(line).collect(), ..RenewRequest::default() }
}

async fn running(app: &TestApp) -> (Worker, Lease) {
    let worker = app.register_workers("w", |_| {}).await;
    app.enqueue("a.b").await;
    let lease = worker.next().await;
    (worker, lease)
}

on_both_engines! {
    async fn lines_that_are_dropped_are_written_nowhere(app: App) {
        const LINES: usize = 400;
        let app = app.start();
        let (worker, lease) = running(&app).await;
        worker.client.renew_lease(&lease.token, &lines(LINES)).await.unwrap();
        let page = app.client.get_task_logs(lease.task.id, None, Some(1_000)).await.unwrap();
        let kept = page.items.len();
        assert_eq!(kept as u64 + page.dropped, LINES as u64, "each is kept or counted");
        assert!((100..=128).contains(&kept), "about a MiB of one heartbeat: {kept}");
        let numbers: Vec<usize> = page.items.iter().map(|l| l.message.parse().unwrap()).collect();
        assert_eq!(numbers, (LINES - kept..LINES).collect::<Vec<_>>(), "the newest, in order");
        let bytes = event_bytes(&app);
        assert!(bytes < MIB + MIB / 10, "{bytes} bytes of events");
    }

    async fn the_limit_of_events_holds_while_they_are_written(app: App) {
        let mut app = app;
        app.config.events_bytes_max = MIB.unsigned_abs();
        // Time stands still, so that nobody looks because it is time to.
        let (app, _clock) = app.with_manual_clock();
        let app = app.start();
        let (worker, lease) = running(&app).await;
        for _ in 0..10 {
            worker.client.renew_lease(&lease.token, &lines(100)).await.unwrap();
        }
        until("an end of too many events", || async {
            Some(event_bytes(&app)).filter(|bytes| *bytes <= MIB + MIB / 8)
        })
        .await;
        // The kept lines may be more than one page holds.
        let logs = |cursor: Option<String>| {
            let (client, id) = (app.client.clone(), lease.task.id);
            async move { client.get_task_logs(id, cursor.as_deref(), Some(1_000)).await.unwrap() }
        };
        let mut page = logs(None).await;
        let mut kept = page.items.len();
        while let Some(cursor) = page.next_cursor {
            page = logs(Some(cursor)).await;
            kept += page.items.len();
        }
        assert_eq!((kept as u64 + page.dropped, kept), (1_000, 512));
    }
}
