//! Executors that answer 202 and report by themselves.

use std::time::Duration;

use nightshift_client::types::{
    Backoff, ErrorCode, ErrorReport, FinishRequest, LogLevel, LogLineRequest, Progress,
    RenewRequest, TaskBatch, TaskErrorKind, TaskRequest, TaskStatus,
};

use crate::support::{
    app::value,
    executor::{Reply, TestExecutor},
    on_both_engines,
};

const SECOND: Duration = Duration::from_secs(1);

fn at_once(path: &str) -> TaskRequest {
    let backoff = Backoff { initial_seconds: Some(0.0), ..Backoff::default() };
    TaskRequest { backoff: Some(backoff), ..TaskRequest::new(path) }
}

on_both_engines! {
    async fn an_accepted_task_is_finished_through_its_lease(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        let lease = executor.called(1).await[0].message().data.lease;
        assert_eq!(lease.url, format!("{}/leases/{}", app.server, lease.token));
        let progress = Progress { fraction: Some(0.4), message: Some("2 of 5".into()) };
        let request = RenewRequest { progress: Some(progress.clone()), ..RenewRequest::default() };
        let renewal = app.client.renew_lease(&lease.token, &request).await.unwrap();
        assert!(!renewal.cancel_requested);
        let state = app.client.get_task_status(id).await.unwrap();
        assert_eq!((state.status, state.progress), (TaskStatus::Running, Some(progress)));
        // Or later: the 202 itself renews, and may be stored after the heartbeat.
        assert!(state.lease_expires_at >= Some(renewal.expires_at));
        let task = app.client.finish_lease(&lease.token, &value("null")).await.unwrap();
        assert_eq!(task.status, TaskStatus::Successful);
        assert_eq!(task.return_value, None);
    }

    async fn an_accepted_task_can_fail_through_its_lease(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        let token = executor.called(1).await[0].message().data.lease.token;
        let error = ErrorReport {
            exception_class_path: Some("builtins.KeyError".into()),
            message: Some("'m31'".into()),
            traceback: Some("KeyError: 'm31'\n".into()),
            retryable: Some(false),
        };
        // As clients send it that say null for what they leave out.
        let finish = FinishRequest { error: Some(error), ..value("null") };
        app.client.finish_lease(&token, &finish).await.unwrap();
        let task = app.end(id).await;
        assert_eq!((task.status, task.errors.len()), (TaskStatus::Failed, 1));
        assert_eq!(task.errors[0].exception_class_path.as_deref(), Some("builtins.KeyError"));
    }

    async fn a_lease_that_is_given_back_costs_no_attempt(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        let token = executor.called(1).await[0].message().data.lease.token;
        app.client.release_lease(&token).await.unwrap();
        let again = executor.called(2).await[1].message().data;
        assert_eq!((again.task_id, again.attempt), (id, 1));
        assert_ne!(again.lease.token, token);
        let refused = app.client.finish_lease(&token, &value("1")).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::LeaseLost));
        let task = app.client.finish_lease(&again.lease.token, &value("1")).await.unwrap();
        assert_eq!((task.attempts, task.deliveries, task.worker_ids.len()), (1, 2, 1));
    }

    async fn c30_an_executor_that_falls_silent_loses_its_task(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register(&executor).await;
        let again = app.enqueue_with(at_once("again")).await.id;
        let once = app.enqueue_with(TaskRequest { max_attempts: Some(1), ..at_once("once") }).await.id;
        executor.called(2).await;
        clock.advance(30 * SECOND);
        let lost = app.end(once).await;
        assert_eq!((lost.status, lost.attempts), (TaskStatus::Failed, 1));
        assert_eq!(lost.errors[0].kind, TaskErrorKind::Lost);
        let retried = app.task_when(again, |task| task.attempts == 2).await;
        assert_eq!((retried.status, retried.errors[0].kind), (TaskStatus::Running, TaskErrorKind::Lost));
    }

    async fn c31_b10_a_late_result_is_refused(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register(&executor).await;
        let id = app.enqueue_with(at_once("a.b")).await.id;
        let first = executor.called(1).await[0].message().data.lease.token;
        clock.advance(30 * SECOND);
        let second = executor.called_for_execution(2).await.message().data;
        assert_eq!((second.task_id, second.attempt), (id, 2));
        let before = app.task(id).await;
        let late = app.client.finish_lease(&first, &value("\"late\"")).await.unwrap_err();
        assert_eq!(late.code(), Some(ErrorCode::LeaseLost));
        assert_eq!(app.task(id).await, before);
        let task = app.client.finish_lease(&second.lease.token, &value("\"right\"")).await.unwrap();
        assert_eq!(task.return_value.unwrap().as_str(), "\"right\"");
    }

    async fn c32_b07_a_task_longer_than_its_lease_runs_once(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        let token = executor.called(1).await[0].message().data.lease.token;
        for _ in 0..10 {
            clock.advance(20 * SECOND);
            app.client.renew_lease(&token, &RenewRequest::default()).await.unwrap();
        }
        let task = app.client.finish_lease(&token, &value("1")).await.unwrap();
        assert_eq!((task.id, task.attempts, executor.executions().len()), (id, 1, 1));
    }

    async fn c32_b110_a_call_longer_than_its_lease_is_renewed_by_the_service(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        let executor = TestExecutor::start({
            let gate = gate.clone();
            move |_| Reply::Later(gate.clone(), Box::new(Reply::ok("1")))
        }).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        executor.called(1).await;
        for _ in 0..10 {
            let before = app.task(id).await.last_renewed_at;
            clock.advance(10 * SECOND);
            let task = app.task_when(id, |task| task.last_renewed_at > before).await;
            assert!(task.lease_expires_at > task.last_renewed_at);
        }
        gate.add_permits(1);
        let task = app.end(id).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
    }

    async fn b09_a_lease_may_be_as_short_as_a_second(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register_as("exec", &executor, |r| r.lease_seconds = Some(1)).await;
        let request = TaskRequest { max_attempts: Some(1), ..TaskRequest::new("a.b") };
        let id = app.enqueue_with(request).await.id;
        executor.called(1).await;
        clock.advance(SECOND);
        assert_eq!(app.end(id).await.errors[0].kind, TaskErrorKind::Lost);
    }

    async fn b05_a_unique_key_holds_over_a_lost_attempt(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register_as("exec", &executor, |r| r.lease_seconds = Some(2)).await;
        let request = TaskRequest { unique_key: Some("k".into()), ..at_once("a.b") };
        let id = app.enqueue_with(request.clone()).await.id;
        let token = executor.called(1).await[0].message().data.lease.token;
        clock.advance(2 * SECOND);
        app.task_when(id, |task| task.attempts == 2).await;
        assert_eq!(app.enqueue_with(request).await.id, id);
        let late = app.client.finish_lease(&token, &value("1")).await.unwrap_err();
        assert_eq!(late.code(), Some(ErrorCode::LeaseLost));
    }

    async fn b19_b22_an_orphan_is_found_among_a_thousand_that_run(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        let long = |r: &mut nightshift_client::types::ExecutorRequest| {
            r.task_paths = vec!["long".into()];
            r.concurrency = Some(2_000);
            r.lease_seconds = Some(3_600);
            r.timeout_seconds = Some(7_200.0);
        };
        app.register_as("long", &executor, long).await;
        let tasks = (0..1_000).map(|_| TaskRequest::new("long")).collect();
        let running = app.client.create_tasks(&TaskBatch { tasks }).await.unwrap().ids;
        executor.called(1_000).await;
        app.register_as("short", &executor, |r| {
            r.task_paths = vec!["short".into()];
            r.concurrency = Some(100);
            r.lease_seconds = Some(1);
            r.max_attempts = Some(1);
        }).await;
        let orphan = |n: usize| TaskRequest {
            unique_key: (n == 0).then(|| "k".to_owned()),
            ..TaskRequest::new("short")
        };
        let tasks = (0..51).map(orphan).collect();
        let orphans = app.client.create_tasks(&TaskBatch { tasks }).await.unwrap().ids;
        executor.called(1_051).await;
        clock.advance(SECOND);
        for id in orphans {
            assert_eq!(app.end(id).await.errors[0].kind, TaskErrorKind::Lost);
        }
        assert_eq!(app.task(running[999]).await.status, TaskStatus::Running);
    }

    async fn b115_each_task_has_its_own_time(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register_as("exec", &executor, |r| r.timeout_seconds = Some(5.0)).await;
        let long = TaskRequest { timeout_seconds: Some(7_200.0), ..TaskRequest::new("long") };
        let long = app.enqueue_with(long).await.id;
        let token = executor.called(1).await[0].message().data.lease.token;
        let short = TaskRequest { max_attempts: Some(1), ..TaskRequest::new("short") };
        let short = app.enqueue_with(short).await.id;
        executor.called(2).await;
        for _ in 0..100 {
            clock.advance(29 * SECOND);
            app.client.renew_lease(&token, &RenewRequest::default()).await.unwrap();
        }
        assert_eq!(app.end(short).await.errors[0].kind, TaskErrorKind::Timeout);
        assert_eq!(app.task(long).await.attempts, 1);
        app.client.finish_lease(&token, &value("1")).await.unwrap();
    }

    async fn b39_a_log_is_bounded_and_says_what_it_dropped(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        let token = executor.called(1).await[0].message().data.lease.token;
        for round in 0..12 {
            let lines = (0..1_000).map(|n| LogLineRequest {
                at: None,
                level: LogLevel::Warning,
                message: format!("{round}/{n} \0"),
            });
            let request = RenewRequest { logs: lines.collect(), ..RenewRequest::default() };
            app.client.renew_lease(&token, &request).await.unwrap();
        }
        let page = app.client.get_task_logs(id, None, Some(1_000)).await.unwrap();
        assert_eq!(page.dropped, 2_000);
        assert_eq!((page.items[0].message.as_str(), page.items[0].attempt), ("2/0 \\u0000", 1));
        let mut count = page.items.len();
        let mut cursor = page.next_cursor;
        while let Some(next) = cursor {
            let page = app.client.get_task_logs(id, Some(&next), Some(1_000)).await.unwrap();
            count += page.items.len();
            cursor = page.next_cursor;
        }
        assert_eq!(count, 10_000);
    }

    async fn an_end_that_says_nothing_is_a_success_with_null(app: App) {
        let app = app.start();
        let worker = app.register_workers("workers", |_| {}).await;
        for _ in 0..3 {
            app.enqueue("a.b").await;
        }
        let leases = worker.lease(3).await;
        let [one, other, batched] = &leases[..] else { panic!("{leases:?}") };
        for (lease, body) in [(one, "{}"), (other, r#"{"return_value":null,"error":null}"#)] {
            let answer = app.post(&format!("/leases/{}/finish", lease.token), body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        let body = format!(r#"{{"results":[{{"token":"{}"}}]}}"#, batched.token);
        assert_eq!(app.post("/leases/finish", body).await.status, 200);
        for lease in leases {
            let task = app.task(lease.task.id).await;
            assert_eq!(task.status, TaskStatus::Successful);
            assert!(task.return_value.is_none_or(|value| value.as_str() == "null"));
        }
    }

    async fn bad_reports_are_refused_and_the_lease_lives_on(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register(&executor).await;
        app.enqueue("a.b").await;
        let token = executor.called(1).await[0].message().data.lease.token;
        for (what, body, problem) in [
            ("finish", r#"{"return_value":1,"cancelled":true}"#, "422 invalid_field "),
            ("finish", r#"{"result":1}"#, "422 invalid_field /result"),
            ("finish", r#"{"return_value":NaN}"#, "400 malformed_json /return_value"),
            ("renew", r#"{"progress":{"fraction":1.5}}"#, "422 invalid_field /progress/fraction"),
            ("renew", r#"{"logs":[{"level":"loud","message":""}]}"#, "422 invalid_field /logs/0/level"),
        ] {
            let answer = app.post(&format!("/leases/{token}/{what}"), body.to_owned()).await;
            assert_eq!(answer.problem(), problem, "{body:.60}");
        }
        let answer = app.post(&format!("/leases/{token}/renew"), "").await;
        assert_eq!(answer.status, 200, "an empty heartbeat is one");
        assert_eq!(app.post(&format!("/leases/{token}/renew"), "null").await.status, 200);
        // An odd character in a text loses nothing; one in a value stays what it is.
        let body = r#"{"progress":{"message":"\ud800"}}"#;
        assert_eq!(app.post(&format!("/leases/{token}/renew"), body).await.status, 200);
        let task = app.client.finish_lease(&token, &value(r#""\ud800""#)).await.unwrap();
        assert_eq!(task.progress.unwrap().message.as_deref(), Some("\u{fffd}"));
        assert_eq!(task.return_value.unwrap().as_str(), r#""\ud800""#);
    }
}
