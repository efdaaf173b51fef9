//! Pages of tasks.

use std::collections::{BTreeMap, HashSet};

use futures_util::TryStreamExt;
use nightshift_client::{
    TaskFilter,
    types::{ErrorCode, TaskBatch, TaskRequest, TaskStatus},
};

use crate::support::{
    app::{TestApp, json},
    executor::{Reply, TestExecutor},
    on_both_engines,
};

async fn paths(app: &TestApp, filter: TaskFilter) -> Vec<String> {
    let list = app.client.list_tasks(&filter).await.unwrap();
    list.items.into_iter().map(|task| task.task_path).collect()
}

on_both_engines! {
    async fn b89_pages_hold_each_task_once_though_all_came_at_one_moment(app: App) {
        let (app, _clock) = app.with_manual_clock();
        let app = app.start();
        let tasks = (0..50).map(|n| TaskRequest::new(format!("t{n}"))).collect();
        app.client.create_tasks(&TaskBatch { tasks }).await.unwrap();
        let mut seen = Vec::new();
        let mut cursor = None;
        for _ in 0..8 {
            let filter = TaskFilter { limit: Some(7), cursor, ..TaskFilter::default() };
            let page = app.client.list_tasks(&filter).await.unwrap();
            seen.extend(page.items.into_iter().map(|task| task.task_path));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let expected: Vec<_> = (0..50).rev().map(|n| format!("t{n}")).collect();
        assert_eq!(seen, expected);
    }

    async fn a_list_is_read_to_its_end_page_after_page(app: App) {
        let app = app.start();
        let tasks = (0..50).map(|n| TaskRequest::new(format!("t{n}"))).collect();
        app.client.create_tasks(&TaskBatch { tasks }).await.unwrap();
        let filter = TaskFilter { limit: Some(7), ..TaskFilter::default() };
        let all: Vec<_> = app.client.tasks(filter.clone()).try_collect().await.unwrap();
        let seen: Vec<_> = all.into_iter().map(|task| task.task_path).collect();
        let expected: Vec<_> = (0..50).rev().map(|n| format!("t{n}")).collect();
        assert_eq!(seen, expected);
        let none = TaskFilter { task_path: Some("u*".to_owned()), ..filter.clone() };
        assert_eq!(app.client.tasks(none).try_collect::<Vec<_>>().await.unwrap(), []);
        let wrong = TaskFilter { cursor: Some("x".to_owned()), ..filter };
        let error = app.client.tasks(wrong).try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::InvalidCursor), "{error}");
        assert!(app.client.executors().try_collect::<Vec<_>>().await.unwrap().is_empty());
    }

    async fn b90_pages_neither_repeat_nor_skip_while_tasks_change(app: App) {
        let app = app.start();
        let tasks = (0..40).map(|n| TaskRequest::new(format!("t{n}"))).collect();
        let ids = app.client.create_tasks(&TaskBatch { tasks }).await.unwrap().ids;
        let mut seen = HashSet::new();
        let mut cursor = None;
        for gone in &ids {
            let filter = TaskFilter { limit: Some(10), cursor, ..TaskFilter::default() };
            let page = app.client.list_tasks(&filter).await.unwrap();
            for task in page.items {
                assert!(seen.insert(task.id), "{} again", task.task_path);
            }
            // Meanwhile tasks come, change and go.
            app.enqueue("new").await;
            app.client.cancel_task(*gone, false).await.unwrap();
            app.client.delete_task(*gone).await.unwrap();
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert!(ids[4..].iter().all(|id| seen.contains(id)));
    }

    async fn b91_limits_are_kept_and_enforced(app: App) {
        let app = app.start();
        app.enqueue("a").await;
        app.enqueue("b").await;
        let id = app.enqueue("c").await.id;
        let one = app.send(app.request("GET", "/tasks?limit=1")).await.json();
        assert_eq!(one["items"].as_array().unwrap().len(), 1);
        for list in ["/tasks".to_owned(), "/executors".to_owned(), format!("/tasks/{id}/logs")] {
            for limit in ["0", "-1", "1001", "1000000000", "99999999999999999999", "x", ""] {
                let answer = app.send(app.request("GET", &format!("{list}?limit={limit}"))).await;
                assert_eq!(answer.problem(), "400 invalid_query -", "{list} {limit}");
            }
            let answer = app.send(app.request("GET", &format!("{list}?cursor=%00"))).await;
            assert_eq!(answer.problem(), "400 invalid_cursor -", "{list}");
            let answer = app.send(app.request("GET", &format!("{list}?offset=3"))).await;
            assert_eq!(answer.problem(), "400 invalid_query -", "{list}");
        }
    }

    async fn b97_no_number_in_a_query_is_too_much(app: App) {
        let app = app.start();
        let id = app.enqueue("a").await.id;
        for number in ["-1", "1e9", "18446744073709551616", "NaN", "0x10", "1.5", "٣"] {
            for route in ["", "/result"] {
                let path = format!("/tasks/{id}{route}?wait={number}");
                let answer = app.send(app.request("GET", &path)).await;
                assert_eq!(answer.problem(), "400 invalid_query -", "{path}");
            }
        }
    }

    async fn lists_are_filtered(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("exec", &executor, |r| r.task_paths = vec!["my.runs".into()]).await;
        let labels = BTreeMap::from([("target".to_owned(), "m31=x".to_owned())]);
        let requests = [
            TaskRequest::new("my.runs"),
            TaskRequest { labels, ..TaskRequest::new("my.labelled") },
            TaskRequest { queue_name: Some("slow".into()), ..TaskRequest::new("other.slow") },
            TaskRequest::new("my.cancelled"),
        ];
        let mut ids = Vec::new();
        for request in requests {
            ids.push(app.enqueue_with(request).await.id);
        }
        app.end(ids[0]).await;
        app.client.cancel_task(ids[3], false).await.unwrap();
        let by = TaskFilter::default;
        let status = |status| TaskFilter { status: Some(status), ..by() };
        assert_eq!(paths(&app, status(TaskStatus::Ready)).await, ["other.slow", "my.labelled"]);
        assert_eq!(paths(&app, status(TaskStatus::Successful)).await, ["my.runs"]);
        assert_eq!(paths(&app, status(TaskStatus::Cancelled)).await, ["my.cancelled"]);
        assert!(paths(&app, status(TaskStatus::Failed)).await.is_empty());
        assert!(paths(&app, status(TaskStatus::Running)).await.is_empty());
        let filter = TaskFilter { queue_name: Some("slow".into()), ..by() };
        assert_eq!(paths(&app, filter).await, ["other.slow"]);
        let filter = TaskFilter { task_path: Some("my.*".into()), ..by() };
        assert_eq!(paths(&app, filter).await, ["my.cancelled", "my.labelled", "my.runs"]);
        let filter = TaskFilter { task_path: Some("MY.*".into()), ..by() };
        assert!(paths(&app, filter).await.is_empty(), "paths have a case");
        let filter = TaskFilter { task_path: Some("my.runs".into()), ..by() };
        assert_eq!(paths(&app, filter).await, ["my.runs"]);
        let filter = TaskFilter { executor: Some("exec".into()), ..by() };
        assert_eq!(paths(&app, filter).await, ["my.runs"]);
        let filter = TaskFilter { label: Some("target=m31=x".into()), ..by() };
        assert_eq!(paths(&app, filter).await, ["my.labelled"]);
        let second = app.task(ids[1]).await.enqueued_at;
        let filter = TaskFilter { enqueued_after: Some(second), ..by() };
        assert_eq!(paths(&app, filter).await, ["my.cancelled", "other.slow"]);
        let filter = TaskFilter { enqueued_before: Some(second), ..by() };
        assert_eq!(paths(&app, filter).await, ["my.runs"]);
    }

    async fn b41_lists_carry_no_bodies(app: App) {
        let app = app.start();
        let args = format!("[\"{}\"]", "x".repeat(100_000));
        let tasks = (0..50).map(|_| TaskRequest { args: json(&args), ..TaskRequest::new("big") });
        app.client.create_tasks(&TaskBatch { tasks: tasks.collect() }).await.unwrap();
        let answer = app.send(app.request("GET", "/tasks")).await;
        assert_eq!(answer.json()["items"].as_array().unwrap().len(), 50);
        assert!(answer.text.len() < 50_000, "{} bytes", answer.text.len());
    }

    async fn b43_odd_names_work_or_are_refused(app: App) {
        let app = app.start();
        for name in ["../x", "a/b", "%2e%2e", "🚀", "CON", "a?b=c#d", "'; DROP TABLE tasks; --"] {
            let queue_name = Some(name.replace(' ', "_"));
            let request = TaskRequest { queue_name: queue_name.clone(), ..TaskRequest::new("a") };
            let id = app.enqueue_with(request).await.id;
            assert_eq!(Some(app.task(id).await.queue_name), queue_name);
            let filter = TaskFilter { queue_name, ..TaskFilter::default() };
            assert_eq!(paths(&app, filter).await, ["a"]);
        }
    }
}
