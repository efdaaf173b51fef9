//! `nightshift worker`: any program is an executor.

use nightshift_client::{
    EnqueueOptions,
    types::{Backoff, ExecutorRequest, TaskErrorKind, TaskRequest, TaskStatus},
};

use crate::support::{
    commands::{Fixture, is_alive, once},
    process::binary,
    soon, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_command_is_the_end_of_its_task() {
    let script = r#"
        case $NIGHTSHIFT_TASK_PATH in
            echo) echo for people; cat; echo ;;
            three) echo '{"b":1e-7,"a":10e40}' >&3; echo noise ;;
            text) echo done, really ;;
            null) ;;
            broken) echo '{"a":' >&3 ;;
            fails) echo 'no such file'; exit 3 ;;
            raises)
                printf '%s\n' 'Traceback (most recent call last):' '  File "m31.py"' >&2
                echo 'half done'
                echo 'ValueError: no such image' >&2
                exit 1 ;;
            never) exit 65 ;;
            killed) echo 'out of memory' >&2; kill -9 $$ ;;
            leaves) sleep 300 & echo $! > left; echo '"gone"' ;;
            environment)
                echo "$NIGHTSHIFT_TASK_ID $NIGHTSHIFT_ATTEMPT/$NIGHTSHIFT_MAX_ATTEMPTS $NIGHTSHIFT_QUEUE_NAME $TRACEPARENT" ;;
        esac
    "#;
    let fixture = Fixture::start(script, |_| {}).await;
    let _worker = fixture.worker(&["--concurrency", "4", "--worker-id", "tester"]).await;
    let request = TaskRequest {
        args: Some("[1e-7]".parse().unwrap()),
        kwargs: Some(r#"{"a":"\u0000"}"#.parse().unwrap()),
        ..once("echo")
    };
    let task = fixture.run(request).await;
    let input = r#"{"args": [1e-7], "kwargs": {"a":"\u0000"}}"#;
    assert_eq!(task.return_value.unwrap().as_str(), input);
    assert_eq!(task.worker_ids, ["tester"]);
    assert_eq!(fixture.log(task.id).await, ["for people"]);
    for (path, value) in [
        ("three", r#"{"b":1e-7,"a":10e40}"#),
        ("text", r#""done, really""#),
        ("leaves", r#""gone""#),
    ] {
        let task = fixture.run(once(path)).await;
        assert_eq!(task.status, TaskStatus::Successful, "{task:?}");
        assert_eq!(task.return_value.unwrap().as_str(), value, "{path}");
    }
    let nothing = fixture.run(once("null")).await;
    assert_eq!((nothing.status, nothing.return_value), (TaskStatus::Successful, None));
    let left = fixture.file("left").await;
    until("the end of what a command left", || async { (!is_alive(&left)).then_some(()) }).await;
    for (path, class, message) in [
        ("fails", "nightshift.CommandFailed", "exit status 3: no such file"),
        ("never", "nightshift.CommandFailed", "exit status 65"),
        ("raises", "nightshift.CommandFailed", "exit status 1: ValueError: no such image"),
        ("killed", "nightshift.CommandKilled", "killed by signal 9: out of memory"),
        ("broken", "nightshift.ResultNotJson", "file descriptor 3 is not JSON"),
    ] {
        let task = fixture.run(once(path)).await;
        assert_eq!(task.status, TaskStatus::Failed, "{path}");
        assert_eq!(task.errors[0].exception_class_path.as_deref(), Some(class));
        assert!(task.errors[0].message.contains(message), "{task:?}");
        let lines = task.errors[0].traceback.as_deref();
        let raised =
            "Traceback (most recent call last):\n  File \"m31.py\"\nValueError: no such image";
        assert_eq!(lines, (path == "raises").then_some(raised), "{path}");
    }
    let never = fixture.run(TaskRequest::new("never")).await;
    assert_eq!(never.attempts, 1, "65 says that another attempt is of no use");
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let options =
        EnqueueOptions { traceparent: Some(traceparent.to_owned()), ..EnqueueOptions::default() };
    let id = fixture.client().create_task(&once("environment"), &options).await.unwrap().task.id;
    let told = fixture.end(id).await.return_value.unwrap();
    assert_eq!(told.as_str(), format!(r#""{id} 1/1 default {traceparent}""#));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_cannot_be_started_fails_its_task() {
    let fixture = Fixture::start("", |_| {}).await;
    let mut child = binary()
        .args(["--server", &fixture.service.server, "worker", "--executor", "sh"])
        .args(["--max-tasks", "1", "--", "/does/not/exist"])
        .spawn()
        .unwrap();
    let task = fixture.run(once("a")).await;
    let class = task.errors[0].exception_class_path.as_deref();
    assert_eq!(class, Some("nightshift.CommandNotStarted"));
    let status = soon("the end after one task", child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0), "--max-tasks");
    let output = fixture.service.run(&["worker", "--executor", "nobody", "--", "true"]).await;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("nightshift executor put nobody"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_command_is_stopped() {
    let script = r"
        case $NIGHTSHIFT_TASK_PATH in
            obeys) trap 'echo stopping >&2; exit 0' TERM ;;
            ignores) trap '' TERM ;;
        esac
        echo $$ > $NIGHTSHIFT_TASK_PATH
        while true; do sleep 0.1; done
    ";
    let lease = |request: &mut ExecutorRequest| request.lease_seconds = Some(1);
    let fixture = Fixture::start(script, lease).await;
    let _worker = fixture.worker(&["--kill-after", "1"]).await;
    for path in ["obeys", "ignores"] {
        let id = fixture.enqueue(TaskRequest::new(path)).await;
        let pid = fixture.file(path).await;
        fixture.client().cancel_task(id, false).await.unwrap();
        assert_eq!(fixture.end(id).await.status, TaskStatus::Cancelled, "{path}");
        until("the end of the command", || async { (!is_alive(&pid)).then_some(()) }).await;
        if path == "obeys" {
            until("its last words in the log", || async {
                fixture.log(id).await.contains(&"stopping".to_owned()).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c27_c28_c29_a_worker_stops_in_good_order() {
    let script = r#"
        echo $$ > $NIGHTSHIFT_TASK_PATH
        until [ -e go ]; do sleep 0.05; done
        echo '"done"'
    "#;
    let fixture = Fixture::start(script, |_| {}).await;
    for name in ["TERM", "HUP"] {
        let idle = fixture.worker(&[]).await;
        idle.signal(name);
        assert_eq!(idle.exited().await.0, Some(0), "idle, {name}");
    }
    // The first signal: what runs ends, and nothing else begins.
    let worker = fixture.worker(&[]).await;
    let first = fixture.enqueue(TaskRequest::new("first")).await;
    let second = fixture.enqueue(TaskRequest::new("second")).await;
    fixture.file("first").await;
    worker.signal("INT");
    std::fs::write(fixture.folder.path().join("go"), "").unwrap();
    assert_eq!(worker.exited().await.0, Some(0));
    assert_eq!(fixture.end(first).await.status, TaskStatus::Successful);
    let waits = fixture.client().get_task(second, None).await.unwrap();
    assert_eq!((waits.status, waits.attempts), (TaskStatus::Ready, 0));
    // The second one: what runs is stopped and handed back.
    std::fs::remove_file(fixture.folder.path().join("go")).unwrap();
    let worker = fixture.worker(&["--concurrency", "2"]).await;
    let only_once = fixture.enqueue(once("third")).await;
    let pids = [fixture.file("second").await, fixture.file("third").await];
    // Two of one kind may arrive as one.
    worker.signal("TERM");
    worker.signal("INT");
    let (status, log) = worker.exited().await;
    assert_eq!(status, Some(0), "{log}");
    assert!(!is_alive(&pids[0]) && !is_alive(&pids[1]));
    let back = fixture.client().get_task(second, None).await.unwrap();
    assert_eq!((back.status, back.attempts), (TaskStatus::Ready, 0), "{log}");
    let lost = fixture.end(only_once).await;
    assert_eq!(lost.status, TaskStatus::Failed);
    let class = lost.errors[0].exception_class_path.as_deref();
    assert_eq!(class, Some("nightshift.WorkerStopped"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c30_after_the_kill_of_a_worker_another_takes_its_task() {
    let script = r#"
        if mkdir $NIGHTSHIFT_TASK_PATH; then
            echo $$ > $NIGHTSHIFT_TASK_PATH.pid
            while true; do sleep 0.1; done
        fi
        echo '"second"'
    "#;
    let lease = |request: &mut ExecutorRequest| request.lease_seconds = Some(1);
    let fixture = Fixture::start(script, lease).await;
    let mut worker = fixture.worker(&["--concurrency", "2"]).await;
    let backoff = Backoff { initial_seconds: Some(0.0), ..Backoff::default() };
    let request = TaskRequest { backoff: Some(backoff), ..TaskRequest::new("again") };
    let again = fixture.enqueue(request).await;
    let only_once = fixture.enqueue(once("once")).await;
    let pids = [fixture.file("again.pid").await, fixture.file("once.pid").await];
    worker.child.kill().await.unwrap();
    let _other = fixture.worker(&[]).await;
    let task = fixture.end(again).await;
    assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 2));
    assert_eq!(task.errors[0].kind, TaskErrorKind::Lost);
    let task = fixture.end(only_once).await;
    assert_eq!((task.status, task.attempts), (TaskStatus::Failed, 1));
    assert_eq!(task.errors[0].kind, TaskErrorKind::Lost);
    for pid in pids {
        // A killed worker cannot stop its commands.
        std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c32_a_command_may_outlast_its_lease_and_a_restart() {
    let script = r#"
        echo begun; echo $$ > begun
        until [ -e go ]; do sleep 0.05; done
        echo '"done"'
    "#;
    let lease = |request: &mut ExecutorRequest| request.lease_seconds = Some(2);
    let mut fixture = Fixture::start(script, lease).await;
    let _worker = fixture.worker(&[]).await;
    let id = fixture.enqueue(TaskRequest::new("long")).await;
    fixture.file("begun").await;
    let first = fixture.client().get_task(id, None).await.unwrap().lease_expires_at;
    until("a heartbeat", || async {
        let task = fixture.client().get_task(id, None).await.unwrap();
        (task.lease_expires_at > first).then_some(())
    })
    .await;
    fixture.service = fixture.service.kill_and_start_again().await;
    std::fs::write(fixture.folder.path().join("go"), "").unwrap();
    let task = fixture.end(id).await;
    assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1), "{task:?}");
    assert!(task.errors.is_empty());
}
