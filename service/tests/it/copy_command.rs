//! `nightshift copy`: everything moves, and what runs can be reported to the new service.

use std::{collections::BTreeMap, process::Output, time::Duration};

use diesel::{
    Connection, PgConnection, QueryableByName, RunQueryDsl, SqliteConnection,
    connection::SimpleConnection,
    sql_query,
    sql_types::{BigInt, Text},
};
use nightshift::clock::later;
use nightshift_client::{
    TaskFilter,
    types::{
        Backoff, ErrorReport, ExecutorRequest, FinishRequest, Lease, LogLevel, LogLineRequest,
        Progress, QueueChange, RenewRequest, Task, TaskRequest, TaskStatus, Timestamp,
        TokenRequest, TokenScope,
    },
};
use nightshift_guests::{self as guests, GUEST};
use serde_json::Value;

use crate::support::{
    app::{Builder, SECRET, TestApp, Worker, json, value},
    database::{Database, execute},
    process::binary,
    soon, until,
};

/// Numbers and characters that come through only where nobody touches them.
const ARGS: &str =
    r#"[1e-7,  123456789012345678901234567890, "m31 ü \ud83d\ude00", {"b":1,"a":2}]"#;

async fn copy(from: &str, to: &str) -> Output {
    let mut command = binary();
    command.args(["--json", "copy", "--from", from, "--to", to]);
    soon("the end of a copy", command.output()).await.unwrap()
}

async fn copied(from: &str, to: &str) -> Value {
    let output = copy(from, to).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn refused(from: &str, to: &str) -> String {
    let output = copy(from, to).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.lines().count(), 1, "one sentence: {text}");
    text
}

async fn next(app: &TestApp, worker: &Worker, request: TaskRequest) -> Lease {
    let request = TaskRequest { args: json(ARGS), ..request };
    let id = app.enqueue_with(request).await.id;
    let lease = worker.next().await;
    assert_eq!(lease.task.id, id);
    lease
}

/// A task in each state, and something in each table; returns the lease of the one that runs.
async fn fill(app: &TestApp) -> Lease {
    let worker = app.register_workers("tom", |request| request.lease_seconds = Some(600)).await;
    let called = ExecutorRequest {
        task_paths: vec!["called.*".to_owned()],
        url: Some("http://127.0.0.1:9/".to_owned()),
        secret: Some(SECRET.to_owned()),
        paused: true,
        ..ExecutorRequest::default()
    };
    app.client.put_executor("called", &called).await.unwrap();
    app.client.put_plugin("guest", guests::plugin(GUEST)).await.unwrap();
    let pause = QueueChange { paused: Some(true), ..QueueChange::default() };
    app.client.update_queue("held", &pause).await.unwrap();

    let labelled = TaskRequest {
        labels: BTreeMap::from([("target".to_owned(), "m31".to_owned())]),
        unique_key: Some("only one".to_owned()),
        priority: Some(-7),
        ..TaskRequest::new("succeeds")
    };
    let succeeds = next(app, &worker, labelled).await;
    let line = LogLineRequest { at: None, level: LogLevel::Info, message: "half".to_owned() };
    let progress = Progress { fraction: Some(0.1), message: Some("half".to_owned()) };
    let renew = RenewRequest { progress: Some(progress), logs: vec![line] };
    app.client.renew_lease(&succeeds.token, &renew).await.unwrap();
    worker.finish(&succeeds, value(r#"{"b": 1.10, "a": [1e-7]}"#)).await.unwrap();

    let message = Some("no such image".to_owned());
    let error = ErrorReport { message, ..ErrorReport::default() };
    let failure = FinishRequest { error: Some(error), ..FinishRequest::default() };
    let fails = TaskRequest { max_attempts: Some(1), ..TaskRequest::new("fails") };
    let fails = next(app, &worker, fails).await;
    worker.finish(&fails, failure.clone()).await.unwrap();
    let backoff = Backoff { initial_seconds: Some(3_600.0), ..Backoff::default() };
    let retries = TaskRequest { backoff: Some(backoff), ..TaskRequest::new("retries") };
    let retries = next(app, &worker, retries).await;
    worker.finish(&retries, failure).await.unwrap();

    let stops = next(app, &worker, TaskRequest::new("stops")).await;
    app.client.cancel_task(stops.task.id, false).await.unwrap();
    let runs = next(app, &worker, TaskRequest::new("runs")).await;

    let cancelled = app.enqueue("called.off").await.id;
    app.client.cancel_task(cancelled, false).await.unwrap();
    app.enqueue("called.ready").await;
    let held = TaskRequest { queue_name: Some("held".to_owned()), ..TaskRequest::new("held") };
    app.enqueue_with(held).await;
    let hour = an_hour_after(&app.task(runs.task.id).await);
    app.enqueue_with(TaskRequest { run_after: Some(hour), ..TaskRequest::new("later") }).await;
    runs
}

fn an_hour_after(task: &Task) -> Timestamp {
    later(task.enqueued_at.into(), Duration::from_hours(1)).into()
}

/// Makes a token, without which nobody gets in from now on, and lets the client show it.
async fn close(app: &mut TestApp) -> String {
    let scopes = vec![TokenScope::Admin];
    let request =
        TokenRequest { name: "ops".to_owned(), scopes, queue_names: None, expires_at: None };
    let token = app.client.create_token(&request).await.unwrap().secret;
    app.client = app.client.clone().with_token(&token).unwrap();
    token
}

/// What the API says of everything, by address.
async fn answers(app: &TestApp, token: &str) -> BTreeMap<String, String> {
    let mut paths: Vec<String> =
        ["/tasks?limit=1000", "/executors", "/plugins", "/audit"].map(str::to_owned).into();
    for task in app.client.list_tasks(&TaskFilter::default()).await.unwrap().items {
        for part in ["", "/result", "/logs", "/explain"] {
            paths.push(format!("/tasks/{}{part}", task.id));
        }
    }
    let mut answers = BTreeMap::new();
    for path in paths {
        let answer = app.send(app.request("GET", &path).bearer_auth(token)).await;
        answers.insert(path, format!("{} {}", answer.status, answer.text));
    }
    answers
}

async fn everything_moves(from: Database, to: Database) {
    let (from_url, to_url) = (from.url(), to.url());
    // Its leases begin anew where it starts again: at the same moment.
    let mut app = Builder::on(from).with_manual_clock().0.start();
    let runs = fill(&app).await;
    let token = close(&mut app).await;
    let before = answers(&app, &token).await;
    let source = app.stop().await;
    let summary = copied(&from_url, &to_url).await;
    for (status, count) in
        [("READY", 4), ("RUNNING", 2), ("SUCCESSFUL", 1), ("FAILED", 1), ("CANCELLED", 1)]
    {
        assert_eq!(summary["tasks"][status], count, "{summary}");
    }
    every_column_is_there(&from_url, &to_url);
    assert!(refused(&from_url, &to_url).await.contains("not empty"));

    let mut app = Builder::on(to).with_manual_clock().0.start();
    app.client = app.client.clone().with_token(&token).unwrap();
    assert_eq!(answers(&app, &token).await, before);
    let ended = app.client.finish_lease(&runs.token, &value("7")).await.unwrap();
    assert_eq!((ended.status, ended.attempts), (TaskStatus::Successful, 1));
    let again = TaskRequest { unique_key: Some("new".to_owned()), ..TaskRequest::new("called.x") };
    let id = app.enqueue_with(again).await.id;
    let newest = app.client.list_tasks(&TaskFilter::default()).await.unwrap().items.remove(0);
    assert_eq!(newest.id, id, "places go on from where they were");
    drop(source);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_moves_from_sqlite_to_postgres() {
    everything_moves(Database::sqlite(), Database::postgres()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_moves_from_postgres_to_sqlite() {
    everything_moves(Database::postgres(), Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_moves_from_a_file_to_another_and_from_a_server_to_another() {
    everything_moves(Database::sqlite(), Database::sqlite()).await;
    everything_moves(Database::postgres(), Database::postgres()).await;
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(Debug, PartialEq, QueryableByName)]
struct Counts {
    #[diesel(sql_type = BigInt)]
    rows: i64,
    #[diesel(sql_type = BigInt)]
    given: i64,
    #[diesel(sql_type = BigInt)]
    different: i64,
}

fn sql<T>(url: &str, text: &str) -> Vec<T>
where
    T: QueryableByName<diesel::sqlite::Sqlite> + QueryableByName<diesel::pg::Pg> + Send + 'static,
{
    match url.strip_prefix("sqlite://") {
        Some(file) => {
            sql_query(text).load(&mut SqliteConnection::establish(file).unwrap()).unwrap()
        }
        None => sql_query(text).load(&mut PgConnection::establish(url).unwrap()).unwrap(),
    }
}

/// `table.column` of each that the service's own tables have.
fn columns(url: &str) -> Vec<String> {
    // Data kept for minutes only, and by PostgreSQL alone, is none of them.
    let others = "('__diesel_schema_migrations', 'task_seqs', 'task_overview', 'rewinds')";
    let text = if url.starts_with("sqlite:") {
        format!(
            "SELECT m.name || '.' || c.name AS name FROM sqlite_schema AS m \
             JOIN pragma_table_info(m.name) AS c WHERE m.type = 'table' \
             AND m.name NOT LIKE 'sqlite%' AND m.name NOT IN {others}"
        )
    } else {
        format!(
            "SELECT table_name || '.' || column_name AS name FROM information_schema.columns \
             WHERE table_schema = current_schema() AND table_name NOT IN {others}"
        )
    };
    let mut names: Vec<String> = sql::<Name>(url, &text).into_iter().map(|row| row.name).collect();
    names.sort();
    names
}

/// By the databases' own lists, so that a table or column that comes later is not forgotten: a
/// table that is empty here has to be filled by [`fill`].
fn every_column_is_there(from: &str, to: &str) {
    let names = columns(from);
    assert_eq!(names, columns(to));
    assert!(names.len() > 90, "{names:?}");
    for name in names {
        let (table, column) = name.split_once('.').unwrap();
        let text = format!(
            "SELECT count(*) AS rows, count(\"{column}\") AS given, \
             count(DISTINCT \"{column}\") AS different FROM {table}"
        );
        let counts = sql::<Counts>(from, &text);
        assert!(counts[0].rows > 0, "nothing in {table}, so nobody knows whether it is copied");
        assert_eq!(counts, sql::<Counts>(to, &text), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_go_wrong_is_refused() {
    let (file, server, empty) = (Database::sqlite(), Database::postgres(), Database::postgres());
    let (file_url, server_url, empty_url) = (file.url(), server.url(), empty.url());
    assert!(refused(&file_url, &server_url).await.contains("does not exist"));
    assert!(refused("mysql://x", &server_url).await.contains("--from"));
    assert!(refused(&file_url, "sqlite://").await.contains("--to"));
    assert!(refused(&empty_url, &file_url).await.contains("no tables of nightshift"));
    let away = copy("postgres://127.0.0.1:1/x", &file_url).await;
    assert_eq!(away.status.code(), Some(2));
    let text = String::from_utf8(away.stderr).unwrap();
    assert!(text.contains("source cannot be used: cannot connect to PostgreSQL"), "{text}");
    for database in [file, server] {
        let url = database.url();
        let to = if url == file_url { &server_url } else { &empty_url };
        let app = Builder::on(database).start();
        let text = refused(&url, to).await;
        assert!(text.contains("source cannot be used"), "{text}");
        assert!(text.contains("in use by") || text.contains("is connected"), "{text}");
        // A service that began after the look at it would be kept from writing.
        drop(app.stop().await.start().stop().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_not_copied_onto_itself_nor_with_another_schema() {
    for database in [Database::sqlite(), Database::postgres()] {
        let url = database.url();
        let _stopped = Builder::on(Database::Borrowed(url.clone())).start().stop().await;
        assert!(refused(&url, &url).await.contains("are the same"));
        let other = Database::sqlite().url();
        execute(&url, "INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')");
        assert!(refused(&url, &other).await.contains("migration 9999"));
        execute(&url, "DELETE FROM __diesel_schema_migrations WHERE version IN ('9999', '0004')");
        assert!(refused(&url, &other).await.contains("lacks migration 0004"));
    }
}

/// Copies with results held by somebody else on the one side that is a server, kills the copy once
/// it waits for them, and copies anew.
async fn interrupt(from: &str, to: &str, server: &str, hold: &str) {
    let mut holder = PgConnection::establish(server).unwrap();
    holder.batch_execute(&format!("BEGIN; {hold}")).unwrap();
    let mut command = binary();
    let mut copying = command.args(["copy", "--from", from, "--to", to]).spawn().unwrap();
    until("the copy waiting", || async {
        let waits = "SELECT query AS name FROM pg_stat_activity WHERE \
                     datname = current_database() AND wait_event_type = 'Lock'";
        sql::<Name>(server, waits).pop().filter(|row| row.name.contains("task_results"))
    })
    .await;
    copying.kill().await.unwrap();
    drop(holder);
    let summary = copied(from, to).await;
    assert_eq!(summary["tasks"]["READY"], 4, "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_copy_leaves_a_server_empty_postgres() {
    let (from, to) = (Database::sqlite(), Database::postgres());
    let (from_url, to_url) = (from.url(), to.url());
    let app = Builder::on(from).start();
    fill(&app).await;
    let source = app.stop().await;
    let migrated = binary().args(["migrate", "--database-url", &to_url]).output().await.unwrap();
    assert!(migrated.status.success());
    // It has written tasks by the time that it waits for this.
    let hold = "LOCK TABLE task_results IN EXCLUSIVE MODE";
    interrupt(&from_url, &to_url, &to_url, hold).await;
    drop((source, to));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_copy_leaves_a_file_empty_postgres() {
    let (from, to) = (Database::postgres(), Database::sqlite());
    let (from_url, to_url) = (from.url(), to.url());
    let app = Builder::on(from).start();
    fill(&app).await;
    let source = app.stop().await;
    // Results are counted before anything is written, and wait for a lock where they are read.
    execute(
        &from_url,
        "CREATE FUNCTION late(value TEXT) RETURNS TEXT STABLE LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_advisory_lock_shared(7); RETURN value; END'; \
         ALTER TABLE task_results RENAME TO kept_results; \
         CREATE VIEW task_results AS \
         SELECT task_seq, late(return_value) AS return_value FROM kept_results",
    );
    interrupt(&from_url, &to_url, &from_url, "SELECT pg_advisory_lock(7)").await;
    drop((source, to));
}
