//! Programs in Rust that are workers.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use nightshift_client::{
    Client, Error, Result, WaitError,
    types::{
        ErrorCode, ExecutorRequest, LogLevel, Progress, TaskErrorKind, TaskRequest, TaskStatus,
    },
    worker::{Context, Failure, Stop, Worker},
};
use serde::Deserialize;
use tokio::sync::{Semaphore, oneshot};

use crate::support::{
    executor::TestExecutor,
    on_both_engines,
    process::Service,
    rust_worker::{Running, begun, endless, once, worker},
    soon, until,
};

#[derive(Deserialize)]
struct Extract {
    image: String,
    #[serde(default)]
    threshold: Option<f64>,
}

on_both_engines! {
    async fn a_function_decides_how_its_task_ends(app: App) {
        let app = app.start();
        let running = Running::start(
            worker(&app.client)
                .register()
                .task("sky.add", async |_: Context, (a, b): (i64, i64)| Ok::<_, Failure>(a + b))
                .task("sky.extract", async |_: Context, input: Extract| {
                    Ok::<_, Failure>(format!("{} {:?}", input.image, input.threshold))
                })
                .task("sky.read", async |_: Context, path: String| {
                    std::fs::read_to_string(path).map_err(Failure::from)
                })
                .task("sky.refuse", async |_: Context, (): ()| {
                    Err::<(), _>(Failure::new("sky.No", "never").traceback("here").retryable(false))
                })
                .task("sky.panic", async |context: Context, (): ()| -> Result<(), Failure> {
                    panic!("attempt {}", context.attempt())
                })
                .task("sky.*", async |context: Context, (): ()| {
                    Ok::<_, Failure>(context.task().task_path.clone())
                }),
        );
        let call = |path: &str| app.client.enqueue(path).max_attempts(1);
        let sum: i64 = soon("a sum", call("sky.add").args((2, 40)).wait()).await.unwrap();
        assert_eq!(sum, 42);
        let kwargs = serde_json::json!({"threshold": 5});
        let extracted: String =
            soon("a text", call("sky.extract").args(["m31"]).kwargs(kwargs).wait()).await.unwrap();
        assert_eq!(extracted, "m31 Some(5.0)");
        let other: String = soon("a path", call("sky.other").wait()).await.unwrap();
        assert_eq!(other, "sky.other", "by prefix");
        for (path, args, class, message) in [
            ("sky.read", r#"["/does/not/exist"]"#, "std::io::error::Error", "No such file"),
            ("sky.refuse", "[]", "sky.No", "never"),
            ("sky.panic", "[]", "panic", "attempt 1"),
            ("sky.add", "[1]", "nightshift.ArgumentsDoNotFit", "invalid length 1"),
        ] {
            let args: serde_json::Value = serde_json::from_str(args).unwrap();
            let error = soon(path, call(path).args(args).wait::<()>()).await.unwrap_err();
            let WaitError::Failed { errors, .. } = error else { panic!("{path}: {error:?}") };
            assert_eq!(errors[0].exception_class_path.as_deref(), Some(class));
            assert!(errors[0].message.contains(message), "{errors:?}");
        }
        for path in ["sky.refuse", "sky.add"] {
            let task = app.client.enqueue(path).max_attempts(9).send().await.unwrap().id();
            assert_eq!(app.end(task).await.attempts, 1, "{path} is not tried again");
        }
        running.drain().await;
    }

    async fn c22_a_worker_says_who_it_is_and_what_it_takes(app: App) {
        let app = app.start();
        let function = async |_: Context, (): ()| Ok::<_, Failure>(());
        let running = Running::start(
            worker(&app.client).task("a.*", function).task("b", function)
                .queue_names(["x", "y"]).exclude_queue_names(["y"]),
        );
        let ask = |queue: &str| app.client.enqueue("b").queue_name(queue).send();
        let (not, yes) = (ask("y").await.unwrap(), ask("x").await.unwrap());
        soon("the end", yes.wait::<()>()).await.unwrap();
        assert_eq!(not.status().await.unwrap().status, TaskStatus::Ready);
        let id = app.task(yes.id()).await.worker_ids.remove(0);
        assert!(id.contains(&format!(".{}.", std::process::id())), "{id}");
        let registered = app.client.get_executor("rust").await.unwrap();
        assert_eq!(registered.task_paths, ["b", "a.*"]);
        running.drain().await;
        let named = Running::start(worker(&app.client).task("b", function).id("me"));
        soon("the end", not.wait::<()>()).await.unwrap();
        assert_eq!(app.task(not.id()).await.worker_ids, ["me"]);
        named.drain().await;
    }

    async fn what_asking_on_does_not_help_ends_a_worker(app: App) {
        let app = app.start();
        let function = async |_: Context, (): ()| Ok::<_, Failure>(());
        let worker = || Worker::new(app.client.clone(), "rust").task("a", function);
        let error = Running::start(worker()).ended().await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::ExecutorNotFound));
        let executor = TestExecutor::start(|_| unreachable!()).await;
        app.register_as("rust", &executor, |_| {}).await;
        let error = Running::start(worker()).ended().await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::ExecutorNotWorker));
        // Another worker of the same executor may know what this one does not.
        app.client.delete_executor("rust").await.unwrap();
        let paths = ExecutorRequest { task_paths: vec!["*".into()], ..ExecutorRequest::default() };
        let running = Running::start(worker().register_as(paths));
        let task = app.enqueue_with(once("b")).await.id;
        let class = app.end(task).await.errors.remove(0).exception_class_path;
        assert_eq!(class.as_deref(), Some("nightshift.NoFunction"));
        running.drain().await;
    }

    async fn progress_and_log_are_told_while_a_function_runs(app: App) {
        let app = app.start();
        let gate = Arc::new(Semaphore::new(0));
        let function = {
            let gate = Arc::clone(&gate);
            move |context: Context, (): ()| {
                let gate = Arc::clone(&gate);
                async move {
                    context.progress(-1.0, "at first");
                    gate.acquire().await?.forget();
                    context.progress(0.5, "half");
                    context.log(LogLevel::Warning, "clouds");
                    assert!(context.time_left() > Duration::from_secs(200));
                    gate.acquire().await?.forget();
                    context.log(LogLevel::Info, "done");
                    Ok::<_, Failure>(())
                }
            }
        };
        let running = Running::start(worker(&app.client).task("a", function));
        let id = app.enqueue("a").await.id;
        let none = Progress { fraction: Some(0.0), message: Some("at first".into()) };
        app.task_when(id, |task| task.progress.as_ref() == Some(&none)).await;
        gate.add_permits(1);
        let half = Progress { fraction: Some(0.5), message: Some("half".into()) };
        app.task_when(id, |task| task.progress.as_ref() == Some(&half)).await;
        let log = async || app.client.get_task_logs(id, None, None).await.unwrap().items;
        let line = until("a line", || async { log().await.pop() }).await;
        assert_eq!((line.level, line.message.as_str()), (LogLevel::Warning, "clouds"));
        gate.add_permits(1);
        assert_eq!(app.end(id).await.status, TaskStatus::Successful);
        assert_eq!(log().await.pop().unwrap().message, "done", "sent before the end is");
        running.drain().await;
    }

    async fn as_many_run_at_once_as_may(app: App) {
        let app = app.start();
        let (gate, begins) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let function = {
            let (gate, begins) = (Arc::clone(&gate), Arc::clone(&begins));
            move |_: Context, (): ()| {
                begins.add_permits(1);
                let gate = Arc::clone(&gate);
                async move {
                    gate.acquire().await?.forget();
                    Ok::<_, Failure>(())
                }
            }
        };
        let mut tasks = Vec::new();
        for _ in 0..6 {
            tasks.push(app.enqueue("a").await.id);
        }
        let running = Running::start(worker(&app.client).task("a", function).concurrency(2));
        begun(&begins).await;
        begun(&begins).await;
        for (place, task) in tasks.iter().enumerate() {
            let waits = app.task(*task).await.status == TaskStatus::Ready;
            assert_eq!(waits, place >= 2, "{place}");
        }
        gate.add_permits(tasks.len());
        for task in tasks {
            assert_eq!(app.end(task).await.status, TaskStatus::Successful);
        }
        running.drain().await;
    }

    async fn a_cancelled_function_is_told(app: App) {
        let app = app.start();
        let (begins, told) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let function = {
            let (begins, told) = (Arc::clone(&begins), Arc::clone(&told));
            move |context: Context, (): ()| {
                begins.add_permits(1);
                let told = Arc::clone(&told);
                async move {
                    assert!(!context.is_cancelled());
                    context.cancelled().await;
                    told.add_permits(1);
                    Ok::<_, Failure>("in vain")
                }
            }
        };
        let running = Running::start(worker(&app.client).task("a", function));
        let task = app.client.enqueue("a").send().await.unwrap();
        begun(&begins).await;
        task.cancel().await.unwrap();
        soon("the news of the cancel", told.acquire()).await.unwrap().forget();
        let error = soon("the end", task.wait::<()>()).await.unwrap_err();
        assert!(matches!(error, WaitError::Cancelled { .. }), "{error:?}");
        running.drain().await;
    }

    async fn without_its_lease_or_its_time_a_function_is_dropped(app: App) {
        let app = app.start();
        let (lost, lost_begins, lost_dropped) = endless();
        let (late, _, late_dropped) = endless();
        let running =
            Running::start(worker(&app.client).task("lost", lost).task("late", late).concurrency(2));
        let task = app.enqueue("lost").await.id;
        begun(&lost_begins).await;
        app.client.cancel_task(task, true).await.unwrap();
        soon("the end of a function without a lease", lost_dropped).await.unwrap();
        let request = TaskRequest { timeout_seconds: Some(1.0), ..once("late") };
        let task = app.enqueue_with(request).await.id;
        soon("the end of a function without time", late_dropped).await.unwrap();
        assert_eq!(app.end(task).await.errors[0].kind, TaskErrorKind::Timeout);
        running.drain().await;
    }

    async fn a_function_that_blocks_keeps_its_lease(app: App) {
        let app = app.start();
        let (go, gate) = mpsc::sync_channel::<()>(0);
        let gate = Arc::new(std::sync::Mutex::new(gate));
        let function = move |_: Context, (): ()| {
            let gate = Arc::clone(&gate);
            async move { gate.lock().unwrap().recv().map_err(Failure::from) }
        };
        let client = Client::new(&app.server).unwrap();
        let worker = worker(&client).task("a", function);
        let (stop, id) = (Stop::default(), app.enqueue("a").await.id);
        // A runtime of one thread, which the function holds up altogether.
        let blocked = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async {
                    // This connection is held up, too.
                    client.get_health().await?;
                    worker.run_until(&stop).await
                })
            }
        });
        let begun = app.task_when(id, |task| task.status == TaskStatus::Running).await;
        let outlived = jiff::Timestamp::from(begun.lease_expires_at.unwrap())
            + jiff::SignedDuration::from_secs(1);
        let beats = app.task_when(id, |task| task.last_renewed_at >= Some(outlived.into())).await;
        assert_eq!(beats.attempts, 1);
        go.send(()).unwrap();
        assert_eq!(app.end(id).await.status, TaskStatus::Successful);
        stop.drain();
        tokio::task::spawn_blocking(|| blocked.join().unwrap()).await.unwrap().unwrap();
    }

    async fn c27_c29_a_worker_stops_in_good_order(app: App) {
        let app = app.start();
        let (gate, begins) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let function = {
            let (gate, begins) = (Arc::clone(&gate), Arc::clone(&begins));
            move |_: Context, (): ()| {
                begins.add_permits(1);
                let gate = Arc::clone(&gate);
                async move {
                    gate.acquire().await?.forget();
                    Ok::<_, Failure>(())
                }
            }
        };
        let running = Running::start(worker(&app.client).task("a", function));
        let (runs, waits) = (app.enqueue("a").await.id, app.enqueue("a").await.id);
        begun(&begins).await;
        running.stop.drain();
        gate.add_permits(2);
        running.ended().await.unwrap();
        assert_eq!(app.task(runs).await.status, TaskStatus::Successful);
        let waits = app.task(waits).await;
        assert_eq!((waits.status, waits.attempts), (TaskStatus::Ready, 0));
    }

    async fn a_worker_that_cannot_wait_hands_back_what_runs(app: App) {
        let app = app.start();
        let (function, begins, dropped) = endless();
        let (only_once, _, _) = endless();
        let obeys = async |context: Context, (): ()| {
            context.cancelled().await;
            Ok::<_, Failure>("in time")
        };
        let soon_over = Duration::from_millis(50);
        let running = Running::start(
            worker(&app.client).task("a", function).task("once", only_once).task("obeys", obeys)
                .concurrency(3).grace(soon_over).stop_within(soon_over),
        );
        let obeying = app.enqueue("obeys").await.id;
        let once = app.enqueue_with(once("once")).await.id;
        let task = app.enqueue("a").await.id;
        begun(&begins).await;
        running.drain().await;
        soon("the end of a function", dropped).await.unwrap();
        let back = app.task(task).await;
        assert_eq!((back.status, back.attempts), (TaskStatus::Ready, 0));
        assert_eq!(app.task(obeying).await.return_value.unwrap().as_str(), "\"in time\"");
        let class = app.task(once).await.errors.remove(0).exception_class_path;
        assert_eq!(class.as_deref(), Some("nightshift.WorkerStopped"));
    }

    async fn a_worker_that_is_dropped_hands_back_what_runs(app: App) {
        let app = app.start();
        let (function, begins, dropped) = endless();
        let worker = worker(&app.client).task("a", function).stop_within(Duration::ZERO);
        let running = Running::start(worker);
        let task = app.enqueue("a").await.id;
        begun(&begins).await;
        running.ended.abort();
        soon("the end of a function", dropped).await.unwrap();
        let back = app.task_when(task, |task| task.status == TaskStatus::Ready).await;
        assert_eq!(back.attempts, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_task_waits_for_a_service_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let (gate, (end, ended)) = (Arc::new(Semaphore::new(0)), oneshot::channel::<()>());
    let end = Arc::new(std::sync::Mutex::new(Some(end)));
    let function = {
        let gate = Arc::clone(&gate);
        move |_: Context, (): ()| {
            let (gate, end) = (Arc::clone(&gate), Arc::clone(&end));
            async move {
                gate.acquire().await?.forget();
                drop(end.lock().unwrap().take());
                Ok::<_, Failure>("kept")
            }
        }
    };
    let running =
        Running::start(Worker::new(service.client.clone(), "rust").task("a", function).register());
    let task = service.client.enqueue("a").send().await.unwrap();
    until("the start", || async {
        (task.status().await.unwrap().status == TaskStatus::Running).then_some(())
    })
    .await;
    let bind = service.bind();
    service.kill().await;
    gate.add_permits(1);
    soon("the end of the function", ended).await.unwrap_err();
    assert!(matches!(task.status().await, Err(Error::Transport(_))));
    let service = Service::start(folder.path(), &bind, &[]).await;
    let value: String = soon("the result", task.wait()).await.unwrap();
    assert_eq!(value, "kept");
    gate.add_permits(1);
    let next: String = soon("another task", service.client.enqueue("a").wait()).await.unwrap();
    assert_eq!(next, "kept", "it takes tasks again");
    running.drain().await;
}
