//! What the clock does to tasks. It is moved by hand.

use std::time::Duration;

use nightshift_client::types::{
    Backoff, ReasonCode, TaskBatch, TaskErrorKind, TaskRequest, TaskStatus,
};

use crate::support::{
    executor::{Reply, TestExecutor},
    on_both_engines, soon,
};

const SECOND: Duration = Duration::from_secs(1);

fn at(path: &str, run_after: &str) -> TaskRequest {
    TaskRequest { run_after: Some(run_after.parse().unwrap()), ..TaskRequest::new(path) }
}

on_both_engines! {
    async fn c19_a_task_waits_for_its_time(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register(&executor).await;
        let later = app.enqueue_with(at("later", "2026-11-25T13:00:00Z")).await;
        let past = app.enqueue_with(at("past", "1970-01-01T00:00:00Z")).await;
        assert_eq!(app.end(past.id).await.status, TaskStatus::Successful);
        let reasons = app.client.explain_task(later.id).await.unwrap().reasons;
        assert_eq!(reasons[0].code, ReasonCode::WaitsForTime);
        assert_eq!(reasons[0].until, later.run_after);
        clock.advance(3599 * SECOND);
        app.run_barrier().await;
        assert_eq!(app.task(later.id).await.status, TaskStatus::Ready);
        clock.advance(SECOND);
        let later = app.end(later.id).await;
        assert_eq!(later.status, TaskStatus::Successful);
        assert_eq!(later.started_at, later.run_after);
    }

    async fn whoever_waits_is_told_when_the_task_ends(app: App) {
        // The clock stands still, so nobody looks again by himself.
        let (app, _clock) = app.with_manual_clock();
        let app = app.start();
        let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        let executor = TestExecutor::start({
            let gate = gate.clone();
            move |_| Reply::Later(gate.clone(), Box::new(Reply::ok("1")))
        }).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        executor.called(1).await;
        // Longer than a test may take.
        let told = app.client.get_task(id, Some(60 * SECOND));
        let (task, ()) = tokio::join!(soon("being told", told), async {
            app.client.get_readiness().await.unwrap();
            gate.add_permits(1);
        });
        assert_eq!(task.unwrap().status, TaskStatus::Successful);
    }

    async fn b57_a_nearer_time_is_not_slept_past(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register(&executor).await;
        app.enqueue_with(at("far", "2026-11-25T12:01:00Z")).await;
        let near = app.enqueue_with(at("near", "2026-11-25T12:00:01Z")).await;
        clock.advance(SECOND);
        assert_eq!(app.end(near.id).await.status, TaskStatus::Successful);
        assert_eq!(executor.calls().len(), 1);
    }

    async fn b15_a_task_due_far_beyond_the_lease_runs_once(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("exec", &executor, |r| r.lease_seconds = Some(10)).await;
        let task = app.enqueue_with(at("later", "2026-11-25T12:00:30Z")).await;
        for _ in 0..3 {
            clock.advance(10 * SECOND);
            app.run_barrier().await;
        }
        assert_eq!(app.end(task.id).await.attempts, 1);
        let runs = executor.executions().iter().filter(|c| c.message().data.task_path == "later").count();
        assert_eq!(runs, 1);
    }

    async fn b37_values_keep_their_text_on_every_path(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|call| match call.message().data.attempt {
            1 => Reply::status(500),
            _ => Reply::ok(call.message().data.kwargs.as_str()),
        }).await;
        app.register(&executor).await;
        let text = r#"{"z": 1e-7, "a": 10000000000000000000000000000000000000001, "a": "\ud800"}"#;
        let task = format!(
            r#"{{"task_path":"a","kwargs":{text},"run_after":"2026-11-25T13:00:00Z"}}"#
        );
        let single = app.post("/tasks", task.clone()).await;
        let batch = app.post("/tasks/batch", format!(r#"{{"tasks":[{task}]}}"#)).await;
        let request = app.request("POST", "/tasks/batch");
        let lines = app.send(request.header("content-type", "application/x-ndjson").body(task)).await;
        assert!(single.text.contains(text), "{}", single.text);
        let location = single.header("location").unwrap().rsplit('/').next().unwrap().to_owned();
        let of_batch = |text: &str| text.split('"').nth(3).unwrap().to_owned();
        let ids = [location, of_batch(&batch.text), of_batch(&lines.text)];
        let ids = ids.map(|id| id.parse().unwrap());
        // Delayed, and then retried.
        clock.advance(3600 * SECOND);
        for id in ids {
            app.task_when(id, |task| task.errors.len() == 1).await;
        }
        clock.advance(60 * SECOND);
        for id in ids {
            let task = app.end(id).await;
            assert_eq!(task.kwargs.as_str(), text);
            assert_eq!(task.return_value.unwrap().as_str(), text);
        }
    }

    async fn b17_a_restart_keeps_what_waits_for_its_time(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("exec", &executor, |r| r.concurrency = Some(100)).await;
        let tasks = (0..1_000).map(|_| at("later", "2026-11-25T13:00:00Z")).collect();
        let ids = app.client.create_tasks(&TaskBatch { tasks }).await.unwrap().ids;
        let app = app.stop().await.start();
        assert_eq!(executor.calls().len(), 0);
        clock.advance(3600 * SECOND);
        for id in ids {
            assert_eq!(app.end(id).await.status, TaskStatus::Successful);
        }
        assert_eq!(executor.calls().len(), 1_000);
    }

    async fn c39_an_attempt_that_takes_too_long_is_cut_off(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|call| match call.message().data.task_path.as_str() {
            "hangs" => Reply::Hang,
            "drips" => Reply::RawThenHang(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[1".to_vec()),
            _ => Reply::ok("1"),
        }).await;
        app.register_as("exec", &executor, |r| r.concurrency = Some(2)).await;
        let once = |path: &str| TaskRequest {
            timeout_seconds: Some(2.0),
            max_attempts: Some(1),
            ..TaskRequest::new(path)
        };
        let hangs = app.enqueue_with(once("hangs")).await.id;
        let drips = app.enqueue_with(once("drips")).await.id;
        executor.called(2).await;
        let next = app.enqueue("next").await.id;
        clock.advance(2 * SECOND);
        for id in [hangs, drips] {
            let task = app.end(id).await;
            assert_eq!((task.status, task.attempts), (TaskStatus::Failed, 1));
            assert_eq!(task.errors[0].kind, TaskErrorKind::Timeout);
        }
        executor.hung_up(2).await;
        assert_eq!(app.end(next).await.status, TaskStatus::Successful, "the place is free again");
        let runs = executor.executions().len();
        assert_eq!(runs, 3, "what may be tried once was tried once");
    }

    async fn c39_a_timeout_is_retried_while_attempts_are_left(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|call| match call.message().data.attempt {
            1 => Reply::Hang,
            _ => Reply::ok("1"),
        }).await;
        app.register(&executor).await;
        let backoff = Backoff { initial_seconds: Some(0.0), ..Backoff::default() };
        let request = TaskRequest {
            timeout_seconds: Some(2.0),
            backoff: Some(backoff),
            ..TaskRequest::new("a.b")
        };
        let id = app.enqueue_with(request).await.id;
        executor.called(1).await;
        clock.advance(2 * SECOND);
        let task = app.end(id).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 2));
        assert_eq!(task.errors[0].kind, TaskErrorKind::Timeout);
    }

    async fn c40_a_failed_task_is_tried_again_after_its_backoff(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(500)).await;
        app.register(&executor).await;
        let backoff = Backoff { jitter: Some(0.0), ..Backoff::default() };
        let request = TaskRequest { backoff: Some(backoff), ..TaskRequest::new("a.b") };
        let id = app.enqueue_with(request).await.id;
        for (attempt, wait) in [(1, 5), (2, 10)] {
            let task = app.task_when(id, |task| task.errors.len() == attempt).await;
            assert_eq!(task.status, TaskStatus::Ready);
            clock.advance((wait - 1) * SECOND);
            assert_eq!(app.task(id).await.attempts as usize, attempt);
            clock.advance(SECOND);
        }
        let task = app.end(id).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Failed, 3));
        let attempts: Vec<_> = task.errors.iter().map(|error| error.attempt).collect();
        assert_eq!((attempts, executor.calls().len()), (vec![1, 2, 3], 3));
    }

    async fn b81_what_failed_together_does_not_come_back_together(app: App) {
        let (app, _clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(500)).await;
        app.register(&executor).await;
        let tasks = (0..200).map(|_| TaskRequest::new("a.b")).collect();
        let ids = app.client.create_tasks(&TaskBatch { tasks }).await.unwrap().ids;
        let mut times = Vec::new();
        for id in ids {
            let task = app.task_when(id, |task| !task.errors.is_empty()).await;
            times.push(jiff::Timestamp::from(task.run_after.unwrap()));
        }
        let spread = times.iter().max().unwrap().duration_since(*times.iter().min().unwrap());
        assert!(spread.as_secs_f64() >= 5.0 * 0.2, "{spread:?}");
    }

    async fn a_task_that_expired_never_runs(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("exec", &executor, |r| r.paused = true).await;
        let expires_at = Some("2026-11-25T12:00:10Z".parse().unwrap());
        let request = TaskRequest { expires_at, ..TaskRequest::new("a.b") };
        let id = app.enqueue_with(request.clone()).await.id;
        clock.advance(10 * SECOND);
        let task = app.end(id).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Failed, 0));
        assert_eq!((task.errors[0].kind, task.errors[0].attempt), (TaskErrorKind::Expired, 0));
        // Nor one that was late when it came.
        app.register(&executor).await;
        let id = app.enqueue_with(request).await.id;
        assert_eq!(app.end(id).await.errors[0].kind, TaskErrorKind::Expired);
        assert_eq!(executor.calls().len(), 0);
    }

    async fn c36_b29_a_cancelled_task_never_runs_even_after_a_restart(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register(&executor).await;
        let id = app.enqueue_with(at("later", "2026-11-25T12:00:10Z")).await.id;
        let task = app.client.cancel_task(id, false).await.unwrap();
        assert_eq!(task.status, TaskStatus::Cancelled);
        assert_eq!(task.errors[0].kind, TaskErrorKind::Cancelled);
        let app = app.stop().await.start();
        clock.advance(60 * SECOND);
        app.run_barrier().await;
        assert_eq!(app.task(id).await.status, TaskStatus::Cancelled);
        assert_eq!(executor.calls().len(), 1, "the barrier only");
    }

    async fn b33_a_task_in_backoff_is_cancelled_at_once(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(500)).await;
        app.register(&executor).await;
        let backoff = Backoff { initial_seconds: Some(3600.0), ..Backoff::default() };
        let request = TaskRequest { backoff: Some(backoff), ..TaskRequest::new("a.b") };
        let id = app.enqueue_with(request).await.id;
        app.task_when(id, |task| task.errors.len() == 1).await;
        let task = app.client.cancel_task(id, false).await.unwrap();
        assert_eq!(task.status, TaskStatus::Cancelled);
        clock.advance(2 * 3600 * SECOND);
        assert_eq!(app.task(id).await.attempts, 1);
    }
}
