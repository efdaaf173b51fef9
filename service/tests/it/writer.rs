//! The one writer: more than it can take, a command that fails among others, and an answer that
//! nobody takes.

use std::{collections::BTreeMap, pin::pin};

use diesel::connection::SimpleConnection;
use futures_util::{StreamExt, future::poll_immediate, stream::FuturesUnordered};
use nightshift::{
    domain::{
        json::JsonText,
        names::QueueName,
        queue::QueueFilter,
        task::{Content, NewTask, Options, Repeat, TaskId},
    },
    store::{ClaimRequest, Claimer, Error},
};
use nightshift_client::types::TaskStatus;
use uuid::Uuid;

use crate::support::{SOON, app::Builder, database::hold_writing, soon};

fn new_task(number: u128) -> NewTask {
    NewTask {
        id: TaskId(Uuid::from_u128(number)),
        content: Content {
            task_path: "a.b".parse().unwrap(),
            args: JsonText::empty_array(),
            kwargs: JsonText::empty_object(),
            queue_name: QueueName::default_queue(),
            priority: 0,
            run_after: None,
            expires_at: None,
            options: Options::default(),
            labels: BTreeMap::new(),
            unique_key: None,
        },
        repeat: Repeat::Never,
        traceparent: None,
        visible: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_command_does_not_hurt_its_neighbours() {
    let builder = Builder::sqlite();
    let database_url = builder.config.database_url.clone();
    let app = builder.start();
    app.store().enqueue(vec![new_task(1)]).await.unwrap().unwrap();
    // Held up, so that all of them come into one transaction.
    let mut other = hold_writing(&database_url);
    let enqueuing = (0..50).map(|number| {
        // An id that this service cannot have made twice breaks the whole batch.
        let id = if number == 25 { 1 } else { 100 + number };
        app.store().enqueue(vec![new_task(id)])
    });
    let commit = async { other.batch_execute("COMMIT").unwrap() };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(enqueuing), commit);
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(
            matches!(answer, Err(Error::Statement(_))),
            number == 25,
            "{number}: {answer:?}"
        );
    }
    assert_eq!(app.count().await, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_writer_refuses_at_once_and_stores_what_it_took() {
    const TASKS: u128 = 5_000;
    let builder = Builder::sqlite();
    let database_url = builder.config.database_url.clone();
    let app = builder.start();
    // As long as somebody else writes, the writer waits.
    let mut other = hold_writing(&database_url);
    let mut enqueuing: FuturesUnordered<_> =
        (1..=TASKS).map(|number| app.store().enqueue(vec![new_task(number)])).collect();
    let first = soon("the first refusal", enqueuing.next()).await.unwrap();
    assert!(matches!(first, Err(Error::Overloaded)), "{first:?}");
    let answer = app.post("/tasks", r#"{"task_path":"a"}"#).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    other.batch_execute("COMMIT").unwrap();
    let mut taken = 0;
    while let Some(answer) = soon("an answer", enqueuing.next()).await {
        match answer {
            Ok(stored) => taken += stored.unwrap().len(),
            // On a slow machine the writer may have waited for the file as long as it does.
            Err(error) => {
                assert!(matches!(error, Error::Overloaded | Error::Unavailable(_)), "{error:?}");
            }
        }
    }
    let mut cursor = None;
    let mut stored = 0;
    loop {
        let filter =
            nightshift_client::TaskFilter { limit: Some(1_000), cursor, ..Default::default() };
        let page = app.client.list_tasks(&filter).await.unwrap();
        stored += page.items.len();
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(stored, taken);
    assert!(taken < 5_000, "{taken}");
}

/// On one thread, so that it is certain what has been done by when.
async fn what_was_claimed_for_nobody_goes_back(app: Builder) {
    let app = app.start();
    app.register_workers("w", |request| request.lease_seconds = Some(600)).await;
    let id = app.enqueue("a.b").await.id;
    let executor = app.store().executor("w".to_owned()).await.unwrap().unwrap().id;
    let worker_id = "gone".to_owned();
    let by = Claimer::Worker { executor, worker_id, queues: QueueFilter::default() };
    {
        let request = ClaimRequest { by, limit: 1 };
        let mut leasing = pin!(app.store().lease(executor, request, SOON));
        assert!(poll_immediate(leasing.as_mut()).await.is_none());
        app.task_when(id, |task| task.status == TaskStatus::Running).await;
        // Answered after that, and so is the worker, which has not looked and goes.
        app.store().check().await.unwrap();
    }
    let task = app.task_when(id, |task| task.status == TaskStatus::Ready).await;
    assert_eq!(task.attempts, 0);
}

#[tokio::test]
async fn what_was_claimed_for_nobody_goes_back_sqlite() {
    what_was_claimed_for_nobody_goes_back(Builder::sqlite()).await;
}

#[tokio::test]
async fn what_was_claimed_for_nobody_goes_back_postgres() {
    what_was_claimed_for_nobody_goes_back(Builder::postgres()).await;
}
