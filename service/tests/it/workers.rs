//! Executors of kind worker: they ask for their tasks.

use std::{collections::BTreeSet, time::Duration};

use diesel::connection::SimpleConnection;
use nightshift_client::types::{
    ErrorCode, ErrorReport, FinishBatch, FinishEntry, FinishRequest, Lease, LeaseRequest,
    RenewRequest, TaskBatch, TaskErrorKind, TaskRequest, TaskStatus,
};

use crate::support::{
    SOON,
    app::{Builder as App, json, value},
    database::hold_writing,
    executor::{Reply, TestExecutor},
    on_both_engines, soon,
};

fn paths(leases: &[Lease]) -> Vec<&str> {
    leases.iter().map(|lease| lease.task.task_path.as_str()).collect()
}

fn in_queue(task_path: &str, queue_name: &str) -> TaskRequest {
    TaskRequest { queue_name: Some(queue_name.to_owned()), ..TaskRequest::new(task_path) }
}

on_both_engines! {
    async fn who_has_just_registered_is_not_told_that_there_is_nothing(app: App) {
        let app = app.start();
        // More than a few steps of routing look at.
        for _ in 0..4 {
            let tasks = vec![TaskRequest::new("other"); 10_000];
            app.client.create_tasks(&TaskBatch { tasks }).await.unwrap();
        }
        let last = app.enqueue("late").await.id;
        let late = vec!["late".to_owned()];
        let worker = app.register_workers("tom", |request| request.task_paths = late).await;
        let leases = worker.lease(10).await;
        assert_eq!(leases.iter().map(|lease| lease.task.id).collect::<Vec<_>>(), [last]);
    }

    async fn a_worker_leases_renews_and_finishes(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let request = TaskRequest {
            args: json("[1e-7]"),
            max_attempts: Some(5),
            ..TaskRequest::new("a.b")
        };
        let id = app.enqueue_with(request).await.id;
        let leases = worker.lease(10).await;
        let [lease] = leases.as_slice() else { panic!("{leases:?}") };
        assert_eq!((lease.task.id, lease.attempt, lease.max_attempts), (id, 1, 5));
        assert_eq!(lease.task.status, TaskStatus::Running);
        assert_eq!(lease.task.args.as_str(), "[1e-7]");
        assert_eq!(lease.task.worker_ids, ["w1"]);
        assert!(lease.expires_at < lease.deadline);
        assert_eq!(Some(&lease.expires_at), lease.task.lease_expires_at.as_ref());
        assert_eq!(worker.lease(10).await, [], "it is handed out once");
        let renewal =
            app.client.renew_lease(&lease.token, &RenewRequest::default()).await.unwrap();
        assert!(renewal.expires_at >= lease.expires_at && !renewal.cancel_requested);
        let task = worker.finish(lease, value(r#"{"b":1,"a":[10e40]}"#)).await.unwrap();
        assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
        assert_eq!(task.return_value.unwrap().as_str(), r#"{"b":1,"a":[10e40]}"#);
        let again = worker.finish(lease, value("2")).await.unwrap_err();
        assert_eq!(again.code(), Some(ErrorCode::LeaseLost));
    }

    async fn c22_a_worker_gets_tasks_of_its_queues_only(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        for queue in ["a", "b", "c", "d"] {
            app.enqueue_with(in_queue(queue, queue)).await;
        }
        let list = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
        let ask = |only: Option<Vec<String>>, except: Option<Vec<String>>| {
            worker.ask(|request| {
                request.max_tasks = Some(10);
                request.queue_names = only;
                request.exclude_queue_names = except;
            })
        };
        assert_eq!(paths(&ask(list(&["b", "x"]), None).await), ["b"]);
        assert_eq!(paths(&ask(list(&["a", "c"]), list(&["c"])).await), ["a"]);
        assert_eq!(ask(list(&[]), None).await, [], "no queue is no queue");
        assert_eq!(paths(&ask(list(&["*"]), list(&["c"])).await), ["d"]);
        assert_eq!(paths(&ask(None, None).await), ["c"]);
    }

    async fn c20_the_order_holds_across_queues(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        for number in 0_i64..40 {
            let request = TaskRequest {
                priority: Some(number % 4),
                ..in_queue(&format!("t{number}"), &format!("q{}", number % 7))
            };
            app.enqueue_with(request).await;
        }
        let mut order = Vec::new();
        loop {
            let leases = worker.lease(3).await;
            if leases.is_empty() {
                break;
            }
            order.extend(leases.into_iter().map(|lease| lease.task.task_path));
        }
        let mut expected: Vec<i64> = (0..40).collect();
        expected.sort_by_key(|number| (-(number % 4), *number));
        let expected: Vec<String> = expected.iter().map(|number| format!("t{number}")).collect();
        assert_eq!(order, expected);
    }

    async fn c23_each_task_is_leased_once(app: App) {
        const TASKS: usize = 400;
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let batch = TaskBatch {
            tasks: (0..TASKS).map(|_| TaskRequest::new("a.b")).collect(),
        };
        app.client.create_tasks(&batch).await.unwrap();
        let working = (0..8).map(|number| {
            let worker = worker.named(&format!("w{number}"));
            async move {
                let mut seen = Vec::new();
                loop {
                    let leases = worker.lease(7).await;
                    if leases.is_empty() {
                        return seen;
                    }
                    for lease in leases {
                        let task = worker.succeed(&lease).await;
                        assert_eq!(task.worker_ids, [worker.id.as_str()]);
                        seen.push(task.id);
                    }
                }
            }
        });
        let seen: Vec<_> =
            futures_util::future::join_all(working).await.into_iter().flatten().collect();
        assert_eq!(seen.len(), TASKS);
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), TASKS);
    }

    async fn c30_c31_b10_a_worker_that_falls_silent_loses_its_task(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let worker = app.register_workers("tom", |request| request.lease_seconds = Some(2)).await;
        let id = app.enqueue("a.b").await.id;
        let once = TaskRequest { max_attempts: Some(1), ..TaskRequest::new("a.once") };
        let once = app.enqueue_with(once).await.id;
        let leases = worker.lease(2).await;
        assert_eq!(paths(&leases), ["a.b", "a.once"]);
        clock.advance(Duration::from_secs(2));
        let lost = app.task_when(id, |task| task.status == TaskStatus::Ready).await;
        assert_eq!(lost.errors[0].kind, TaskErrorKind::Lost);
        let lost = app.task_when(once, |task| task.status.is_finished()).await;
        assert_eq!(lost.status, TaskStatus::Failed);
        assert_eq!(lost.errors[0].kind, TaskErrorKind::Lost);
        clock.advance(Duration::from_mins(1));
        app.task_when(id, |task| task.run_after.is_some()).await;
        let next = worker.named("w2").next().await;
        assert_eq!((next.task.id, next.attempt), (id, 2));
        assert_eq!(next.task.worker_ids, ["w1", "w2"]);
        for late in &leases {
            let late = worker.finish(late, value("0")).await.unwrap_err();
            assert_eq!(late.code(), Some(ErrorCode::LeaseLost));
        }
        assert_eq!(app.task(id).await.status, TaskStatus::Running);
        assert_eq!(worker.succeed(&next).await.status, TaskStatus::Successful);
    }

    async fn c32_heartbeats_keep_a_long_task(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let worker = app.register_workers("tom", |request| request.lease_seconds = Some(5)).await;
        app.enqueue("a.b").await;
        let lease = worker.next().await;
        for _ in 0..20 {
            clock.advance(Duration::from_secs(4));
            app.client.renew_lease(&lease.token, &RenewRequest::default()).await.unwrap();
        }
        assert_eq!(worker.succeed(&lease).await.attempts, 1);
    }

    async fn a_waiting_worker_gets_a_task_as_soon_as_there_is_one(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let waiting = worker.ask(|request| request.wait_seconds = Some(60));
        let later = async {
            // The other one may or may not wait by then; either way it gets the task.
            tokio::task::yield_now().await;
            app.enqueue("a.b").await.id
        };
        let (leases, id) = soon("a task", Box::pin(async { tokio::join!(waiting, later) })).await;
        assert_eq!(leases.iter().map(|lease| lease.task.id).collect::<Vec<_>>(), [id]);
    }

    async fn a_worker_that_went_away_gets_nothing(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let waiting = tokio::spawn({
            let worker = worker.clone();
            async move { worker.ask(|request| request.wait_seconds = Some(60)).await }
        });
        // It has asked before it goes, or goes before it asks: it gets nothing either way.
        app.run_sweeps().await;
        waiting.abort();
        waiting.await.unwrap_err();
        let id = app.enqueue("a.b").await.id;
        let lease = worker.named("w2").next().await;
        assert_eq!((lease.task.id, lease.attempt), (id, 1));
        assert_eq!(lease.task.worker_ids, ["w2"]);
    }

    async fn a_worker_waits_as_long_as_it_says(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let waiting = tokio::spawn({
            let worker = worker.clone();
            async move { worker.ask(|request| request.wait_seconds = Some(30)).await }
        });
        clock.advance(Duration::from_secs(29));
        app.run_sweeps().await;
        assert!(!waiting.is_finished());
        let leases = soon("the end of the wait", async {
            while !waiting.is_finished() {
                clock.advance(Duration::from_secs(1));
                tokio::task::yield_now().await;
            }
            waiting.await.unwrap()
        })
        .await;
        assert_eq!(leases, []);
    }

    async fn what_is_released_counts_no_attempt(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let id = app.enqueue("a.b").await.id;
        let lease = worker.next().await;
        app.client.release_lease(&lease.token).await.unwrap();
        let task = app.task(id).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Ready, 0));
        assert_eq!(task.worker_ids, Vec::<String>::new());
        let again = worker.named("w2").next().await;
        assert_eq!((again.task.id, again.attempt), (id, 1));
    }

    async fn several_ends_are_recorded_each_for_itself(app: App) {
        let mut app = app;
        app.config.return_value_bytes_max = 1_000;
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        for number in 0..5 {
            app.enqueue(&format!("t{number}")).await;
        }
        let leases = worker.lease(5).await;
        let large = format!("\"{}\"", "x".repeat(1_000));
        let error = ErrorReport { message: Some("no".to_owned()), ..ErrorReport::default() };
        let ends = [
            value("null"),
            FinishRequest { error: Some(error), ..FinishRequest::default() },
            value(&large),
            FinishRequest { cancelled: true, ..FinishRequest::default() },
            FinishRequest { cancelled: true, ..value("1") },
        ];
        let mut results: Vec<FinishEntry> = leases
            .iter()
            .zip(ends)
            .map(|(lease, end)| FinishEntry::new(lease.token.clone(), end))
            .collect();
        results.push(FinishEntry::new("0".repeat(48), value("1")));
        results.push(FinishEntry::new(leases[0].token.clone(), value("2")));
        let answers = app.client.finish_leases(&FinishBatch { results }).await.unwrap().results;
        let told: Vec<String> = answers
            .iter()
            .map(|answer| match (&answer.status, &answer.problem) {
                (Some(status), None) => status.to_string(),
                (None, Some(problem)) => problem.code.clone(),
                both => panic!("{both:?}"),
            })
            .collect();
        assert_eq!(
            told,
            ["SUCCESSFUL", "READY", "FAILED", "CANCELLED", "invalid_field", "lease_lost", "lease_lost"]
        );
        let too_large = app.task(leases[2].task.id).await;
        let class = too_large.errors[0].exception_class_path.as_deref();
        assert_eq!(class, Some("nightshift.ReturnValueTooLarge"));
        assert!(too_large.errors[0].message.contains("1000 bytes"), "{too_large:?}");
        assert_eq!(app.task(leases[4].task.id).await.status, TaskStatus::Running);
        for bad in [r#"{"results":[]}"#, r#"{"results":[[1]]}"#, r#"{"results":[{}]}"#] {
            assert_eq!(app.post("/leases/finish", bad).await.status, 422, "{bad}");
        }
    }

    async fn an_outcome_too_large_to_keep_is_an_outcome(app: App) {
        let mut app = app;
        app.config.return_value_bytes_max = 1_000;
        app.config.body_bytes_max = 1_000;
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
        let large = format!("\"{}\"", "x".repeat(1_000));
        let huge = format!("\"{}\"", "x".repeat(1_000_000));
        for (value, class) in [
            (&deep, "nightshift.ReturnValueTooDeep"),
            (&large, "nightshift.ReturnValueTooLarge"),
            (&huge, "nightshift.ReturnValueTooLarge"),
        ] {
            app.enqueue("a.b").await;
            let lease = worker.next().await;
            let body = format!(r#"{{"return_value":{value}}}"#);
            let answer = app.post(&format!("/leases/{}/finish", lease.token), body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let task = app.task(lease.task.id).await;
            assert_eq!((task.status, task.attempts), (TaskStatus::Failed, 1));
            assert_eq!(task.errors[0].exception_class_path.as_deref(), Some(class));
        }
    }

    async fn c51_b34_a_nul_in_an_error_is_stored(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let request = TaskRequest { max_attempts: Some(1), ..TaskRequest::new("a.b") };
        let id = app.enqueue_with(request).await.id;
        let lease = worker.next().await;
        let error = ErrorReport {
            message: Some("a\0b".to_owned()),
            traceback: Some("c\0d".to_owned()),
            ..ErrorReport::default()
        };
        let end = FinishRequest { error: Some(error), ..FinishRequest::default() };
        worker.finish(&lease, end).await.unwrap();
        let task = app.task(id).await;
        assert_eq!(task.status, TaskStatus::Failed);
        assert_eq!(task.errors[0].message, "a\\u0000b");
        assert_eq!(task.errors[0].traceback.as_deref(), Some("c\\u0000d"));
    }

    async fn c37_a_worker_hears_of_a_cancel_in_its_next_heartbeat(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        for obeys in [true, false] {
            let id = app.enqueue("a.b").await.id;
            let lease = worker.next().await;
            assert_eq!(app.client.cancel_task(id, false).await.unwrap().status, TaskStatus::Running);
            let renewal =
                app.client.renew_lease(&lease.token, &RenewRequest::default()).await.unwrap();
            assert!(renewal.cancel_requested);
            let end = FinishRequest { cancelled: true, ..FinishRequest::default() };
            if obeys {
                worker.finish(&lease, end).await.unwrap();
            } else {
                clock.advance(Duration::from_secs(10));
                app.end(id).await;
                let late = worker.finish(&lease, end).await.unwrap_err();
                assert_eq!(late.code(), Some(ErrorCode::LeaseLost));
            }
            assert_eq!(app.task(id).await.status, TaskStatus::Cancelled);
        }
    }

    async fn a_worker_executor_runs_as_much_as_its_concurrency(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |request| request.concurrency = Some(3)).await;
        for _ in 0..5 {
            app.enqueue("a.b").await;
        }
        let leases = worker.lease(10).await;
        assert_eq!(leases.len(), 3);
        assert_eq!(worker.named("w2").lease(10).await, []);
        let waiting = worker.ask(|request| request.wait_seconds = Some(60));
        let (next, _) =
            soon("room", async { tokio::join!(waiting, worker.succeed(&leases[0])) }).await;
        assert_eq!(next.len(), 1);
    }

    async fn workers_are_asked_for_by_workers_only(app: App) {
        let app = app.start();
        let called = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("called", &called, |request| request.task_paths = vec!["c.*".to_owned()])
            .await;
        app.register_workers("tom", |_| {}).await;
        let request = LeaseRequest { worker_id: "w1".to_owned(), ..LeaseRequest::default() };
        for (name, code) in [
            ("nobody", ErrorCode::ExecutorNotFound),
            ("called", ErrorCode::ExecutorNotWorker),
        ] {
            let refused = app.client.lease_tasks(name, &request).await.unwrap_err();
            assert_eq!(refused.code(), Some(code));
        }
        for (body, problem) in [
            ("{}", "422 invalid_field "),
            (r#"{"worker_id":""}"#, "422 invalid_field /worker_id"),
            (r#"{"worker_id":"w","max_tasks":0}"#, "422 invalid_field /max_tasks"),
            (r#"{"worker_id":"w","max_tasks":1001}"#, "422 invalid_field /max_tasks"),
            (r#"{"worker_id":"w","wait_seconds":61}"#, "422 invalid_field /wait_seconds"),
            (r#"{"worker_id":"w","wait_seconds":-1}"#, "422 invalid_field /wait_seconds"),
            (r#"{"worker_id":"w","queue_names":["a b"]}"#, "422 invalid_field /queue_names"),
            (r#"{"worker_id":"w","queues":[]}"#, "422 invalid_field /queues"),
        ] {
            let answer = app.post("/executors/tom/leases", body).await;
            assert_eq!(answer.problem(), problem, "{body}");
        }
        for (body, problem) in [
            (r#"{"kind":"worker","task_paths":["*"],"url":"http://x/"}"#, "422 invalid_field /url"),
            (r#"{"kind":"worker","task_paths":["*"],"concurrency":0}"#, "422 invalid_field /concurrency"),
        ] {
            let request = app.request("PUT", "/executors/x").body(body);
            let answer = app.send(request.header("content-type", "application/json")).await;
            assert_eq!(answer.problem(), problem, "{body}");
        }
        let tom = app.client.get_executor("tom").await.unwrap();
        assert_eq!((tom.url, tom.concurrency), (None, None));
    }
}

/// Who asks while the writer is busy asks at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_ask_together_share() {
    // No sweep comes between by itself.
    let (builder, _clock) = App::sqlite().with_manual_clock();
    let database_url = builder.config.database_url.clone();
    let app = builder.start();
    let worker = app.register_workers("tom", |_| {}).await;
    for _ in 0..10 {
        app.enqueue("a.b").await;
    }
    let mut other = hold_writing(&database_url);
    // Keeps the writer waiting, so that the workers' requests gather behind it.
    let mut first = std::pin::pin!(app.store().sweep());
    assert!(futures_util::poll!(&mut first).is_pending());
    crate::support::until("the writer's taking it", || async {
        (app.store().waiting_commands() == 0).then_some(())
    })
    .await;
    let greedy = worker.named("greedy");
    let modest = worker.named("modest");
    let asking = async { tokio::join!(greedy.lease(100), modest.lease(4)) };
    let release = async {
        crate::support::until("both requests", || async {
            (app.store().waiting_commands() >= 2).then_some(())
        })
        .await;
        other.batch_execute("COMMIT").unwrap();
    };
    let ((greedy, modest), ()) =
        tokio::time::timeout(SOON, async { tokio::join!(asking, release) }).await.unwrap();
    first.await.unwrap();
    assert_eq!((greedy.len(), modest.len()), (6, 4));
}
