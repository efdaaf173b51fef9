//! Defaults of a database or a role that were made for somebody else's statements.

use diesel::{
    Connection, PgConnection, RunQueryDsl, connection::SimpleConnection, dsl::sql, sql_query,
    sql_types::Text,
};
use futures_util::future::join_all;
use nightshift_client::types::TaskStatus;

use crate::support::{
    app::Builder,
    database::Database,
    executor::{Reply, TestExecutor},
    process::binary,
    soon,
};

fn set_default(url: &str, setting: &str) {
    let (_, name) = url.rsplit_once('/').unwrap();
    let mut connection = PgConnection::establish(url).unwrap();
    connection.batch_execute(&format!("ALTER DATABASE {name} SET {setting}")).unwrap();
}

async fn two_processes_work(setting: &str) {
    let builder = Builder::postgres();
    set_default(&builder.config.database_url, setting);
    let first = builder.start();
    let second = first.replica(|_| {});
    let executor = TestExecutor::start(|_| Reply::ok("1")).await;
    first.register(&executor).await;
    let apps = [&first, &second];
    let enqueuing = (0..300).map(|number: usize| apps[number % 2].enqueue("a.b"));
    // Each is accepted, or this fails.
    let tasks = join_all(enqueuing).await;
    for (number, task) in tasks.iter().enumerate().step_by(30) {
        assert_eq!(apps[number % 2].end(task.id).await.status, TaskStatus::Successful, "{setting}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_isolation_of_serializable_does_not_matter() {
    two_processes_work("default_transaction_isolation = 'serializable'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_isolation_of_repeatable_read_does_not_matter() {
    two_processes_work("default_transaction_isolation = 'repeatable read'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_on_the_disk_whatever_the_default_is() {
    let builder = Builder::postgres();
    let url = builder.config.database_url.clone();
    set_default(&url, "synchronous_commit = off");
    // Each task says how its transaction was committed.
    let mut connection = PgConnection::establish(&url).unwrap();
    let app = builder.start();
    connection
        .batch_execute(
            "CREATE TABLE said (setting text); CREATE FUNCTION say() RETURNS trigger LANGUAGE \
             plpgsql AS $$ BEGIN INSERT INTO said VALUES (current_setting('synchronous_commit')); \
             RETURN NULL; END $$; \
             CREATE TRIGGER say AFTER INSERT ON tasks EXECUTE FUNCTION say()",
        )
        .unwrap();
    app.enqueue("a.b").await;
    let said: Vec<String> = sql::<Text>("SELECT setting FROM said").load(&mut connection).unwrap();
    assert_eq!(said, ["on"]);
}

/// What a start says that is refused.
async fn refusal(url: &str) -> String {
    let mut command = binary();
    command.args(["serve", "--bind", "127.0.0.1:0", "--database-url", url]);
    let output = soon("a refusal", command.output()).await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let database = Database::postgres();
    let url = database.url();
    let (server, name) = url.rsplit_once('/').unwrap();
    let latin = format!("{name}_latin");
    let mut connection = PgConnection::establish(&url).unwrap();
    sql_query(format!("CREATE DATABASE {latin} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"))
        .execute(&mut connection)
        .unwrap();
    let text = refusal(&format!("{server}/{latin}")).await;
    sql_query(format!("DROP DATABASE {latin} WITH (FORCE)")).execute(&mut connection).unwrap();
    assert!(text.contains("LATIN1") && text.contains("--encoding UTF8"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_no_setting_names_is_found() {
    let database = Database::postgres();
    let url = database.pooled_url();
    let mut command = binary();
    command.args(["--json", "doctor", "--database-url", &url]);
    let output = soon("a report", command.output()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("set database_pooled = true"), "{text}");
    let mut command = binary();
    command.args(["--json", "doctor", "--database-url", &database.url()]);
    let output = soon("a report", command.output()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("set database_pooled = true"), "{text}");
}
