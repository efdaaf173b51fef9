//! The binary: signals, crashes, and the command line.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nightshift_client::{
    Client, EnqueueOptions,
    types::{Backoff, ExecutorRequest, TaskErrorKind, TaskRequest, TaskStatus},
};
use serde_json::Value;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::support::{
    SOON,
    app::SECRET,
    executor::{Reply, TestExecutor, verify},
    process::{Service, binary},
    soon, until,
};

async fn register(client: &Client, executor: &TestExecutor) {
    let request = ExecutorRequest {
        task_paths: vec!["*".to_owned()],
        url: Some(executor.url()),
        secret: Some(SECRET.to_owned()),
        ..ExecutorRequest::default()
    };
    client.put_executor("exec", &request).await.unwrap();
}

async fn enqueue(client: &Client, request: &TaskRequest) -> Uuid {
    client.create_task(request, &EnqueueOptions::default()).await.unwrap().task.id
}

fn at_once(path: &str) -> TaskRequest {
    let backoff = Backoff { initial_seconds: Some(0.0), ..Backoff::default() };
    TaskRequest { backoff: Some(backoff), ..TaskRequest::new(path) }
}

#[tokio::test(flavor = "multi_thread")]
async fn c29_an_idle_service_stops_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["TERM", "INT", "HUP"] {
        let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
        service.client.get_readiness().await.unwrap();
        let start = Instant::now();
        service.signal(name);
        assert_eq!(service.exited().await.0, Some(0), "{name}");
        assert!(start.elapsed() < Duration::from_secs(5), "{name}: {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c27_sigterm_waits_for_what_runs_and_claims_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let executor = TestExecutor::start({
        let gate = gate.clone();
        move |_| Reply::Later(gate.clone(), Box::new(Reply::ok("1")))
    })
    .await;
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    register(&service.client, &executor).await;
    let id = enqueue(&service.client, &TaskRequest::new("a.b")).await;
    executor.called(1).await;
    service.signal("TERM");
    until("the service saying that it stops", || async {
        service.client.get_readiness().await.is_err().then_some(())
    })
    .await;
    // It takes tasks still, and starts none.
    let late = enqueue(&service.client, &TaskRequest::new("late")).await;
    gate.add_permits(1);
    let (code, log) = service.exited().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(executor.calls().len(), 1);
    gate.add_permits(1);
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let task = service.client.get_task(id, None).await.unwrap();
    assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
    let late = service.client.get_task(late, Some(SOON)).await.unwrap();
    assert_eq!((late.status, late.attempts), (TaskStatus::Successful, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_taken_until_the_drain_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &["--drain-seconds", "600"]).await;
    let http = reqwest::Client::new();
    let ready = async || {
        http.get(format!("{}/readyz", service.server)).send().await.unwrap().status().as_u16()
    };
    assert_eq!(ready().await, 200);
    service.signal("TERM");
    until("a service that is not ready", || async { (ready().await == 503).then_some(()) }).await;
    let stored = http
        .post(format!("{}/tasks", service.server))
        .header("content-type", "application/json")
        .body(r#"{"task_path":"a.b"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(stored.status(), 201);
    assert_eq!(stored.headers()["connection"], "close", "the next one goes elsewhere");
    service.signal("TERM");
    let (code, log) = service.exited().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c28_a_second_signal_stops_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let executor = TestExecutor::start(|_| Reply::Hang).await;
    let service =
        Service::start(folder.path(), "127.0.0.1:0", &["--shutdown-grace-seconds", "3600"]).await;
    register(&service.client, &executor).await;
    let id = enqueue(&service.client, &TaskRequest::new("a.b")).await;
    executor.called(1).await;
    service.signal("TERM");
    until("the service saying that it stops", || async {
        service.client.get_readiness().await.is_err().then_some(())
    })
    .await;
    service.signal("TERM");
    let (code, log) = service.exited().await;
    assert_eq!(code, Some(0), "{log}");
    executor.hung_up(1).await;
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let again = executor.called_for_execution(2).await.message().data;
    assert_eq!((again.task_id, again.attempt), (id, 1), "handed back, not lost");
    drop(service);
}

#[tokio::test(flavor = "multi_thread")]
async fn b01_b02_after_a_kill_the_task_runs_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let executor = TestExecutor::start(|call| match call.message().data.attempt {
        1 => Reply::Hang,
        _ => Reply::ok("1"),
    })
    .await;
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    register(&service.client, &executor).await;
    let id = enqueue(&service.client, &at_once("a.b")).await;
    let once = TaskRequest { max_attempts: Some(1), ..at_once("once") };
    let once = enqueue(&service.client, &once).await;
    executor.called(2).await;
    let service = service.kill_and_start_again().await;
    let start = Instant::now();
    let task = service.client.get_task(id, Some(SOON)).await.unwrap();
    assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 2));
    assert_eq!(task.errors[0].kind, TaskErrorKind::Lost);
    assert!(start.elapsed() < Duration::from_secs(20), "not the lease, but the start, ended it");
    let once = service.client.get_task(once, Some(SOON)).await.unwrap();
    assert_eq!((once.status, once.attempts), (TaskStatus::Failed, 1), "never started twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_task_goes_on_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let executor = TestExecutor::start(|_| Reply::status(202)).await;
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    register(&service.client, &executor).await;
    let id = enqueue(&service.client, &TaskRequest::new("a.b")).await;
    let token = executor.called(1).await[0].message().data.lease.token;
    // Renewed, so it is known to have been accepted.
    let accepted = until("the 202 being stored", || async {
        let task = service.client.get_task(id, None).await.unwrap();
        (task.last_renewed_at > task.started_at).then_some(task)
    });
    accepted.await;
    let service = service.kill_and_start_again().await;
    let finish = nightshift_client::types::FinishRequest {
        return_value: Some("7".parse().unwrap()),
        ..Default::default()
    };
    let task = service.client.finish_lease(&token, &finish).await.unwrap();
    assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_the_same_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let mut second = binary();
    let second = second.args(["serve", "--bind", "127.0.0.1:0", "--database-url", &url]);
    let second = soon("a refusal", second.output()).await.unwrap();
    let text = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(2), "{text}");
    assert!(text.contains("in use by another nightshift"), "{text}");
    service.client.get_readiness().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let refused =
        |file: &'static str, variable: (&'static str, &'static str), flags: &'static [&str]| {
            let folder = folder.path().to_owned();
            async move {
                std::fs::write(folder.join("nightshift.toml"), file).unwrap();
                let mut command = binary();
                command.arg("serve").args(flags).env(variable.0, variable.1).current_dir(folder);
                let output = soon("a refusal", command.output()).await.unwrap();
                assert_eq!(output.status.code(), Some(2), "{file} {variable:?} {flags:?}");
                String::from_utf8(output.stderr).unwrap()
            }
        };
    let none = ("UNRELATED", "1");
    assert!(refused("", none, &["--bind", "0.0.0.0:0"]).await.contains("token create"));
    let short = ("NIGHTSHIFT_ADMIN_TOKEN", "short");
    let output = refused("", short, &[]).await;
    assert!(output.contains("admin_token") && !output.contains("short"), "{output}");
    let both = refused("", ("NIGHTSHIFT_ADMIN_TOKEN", "x"), &["--admin-token-file", "f"]).await;
    assert!(both.contains("not both"), "{both}");
    assert!(refused("", none, &["--admin-token-file", "nowhere"]).await.contains("nowhere"));
    assert!(refused("speed = 7", none, &[]).await.contains("speed"));
    assert!(refused("", ("NIGHTSHIFT_SPEED", "7"), &[]).await.contains("speed"));
    assert!(refused("http_workers = 0", none, &[]).await.contains("http_workers"));
    assert!(refused("", none, &["--database-url", "mysql://x"]).await.contains("sqlite://"));
    let in_memory: [&[&str]; 3] = [
        &["--database-url", "sqlite://:memory:"],
        &["--database-url", "sqlite://file::memory:"],
        &["--database-url", "sqlite://file:x?mode=memory"],
    ];
    for flags in in_memory {
        let output = refused("", none, flags).await;
        assert!(output.contains("no file that outlives the process"), "{output}");
    }
    assert!(refused("", none, &["--config", "nowhere.toml"]).await.contains("nowhere.toml"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variables_of_clients_are_no_settings() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary();
    command.arg("migrate").current_dir(folder.path());
    command.env("NIGHTSHIFT_SERVER", "http://127.0.0.1:1").env("NIGHTSHIFT_TOKEN", "t");
    let output = soon("the end", command.output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_open_connections_keep_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let address = service.bind();
    let mut open = Vec::new();
    for _ in 0..10_000 {
        match tokio::net::TcpStream::connect(&address).await {
            Ok(stream) => open.push(stream),
            Err(error) => panic!("{} connections, then {error}", open.len()),
        }
    }
    // Those that say nothing are closed, and everybody else is served.
    let id = enqueue(&service.client, &TaskRequest::new("a.b")).await;
    service.client.get_task(id, None).await.unwrap();
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_does_what_the_api_does() {
    let folder = tempfile::tempdir().unwrap();
    let executor = TestExecutor::start(|call| match call.message().data.task_path.as_str() {
        "fails" => Reply::with(400, r#"{"message":"no such image","traceback":"Traceback"}"#),
        _ => Reply::ok(call.message().data.args.as_str()),
    })
    .await;
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let run = async |arguments: &str, code: i32| {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let output = service.run(&words).await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments}\n{out}\n{err}");
        (out.trim_end().to_owned(), err)
    };
    let url = executor.url();
    let (made, _) =
        run(&format!("executor put exec --url {url} --task-path echo --task-path fails"), 0).await;
    assert!(made.contains("whsec_"), "a secret is made, and shown once");
    assert!(run("executor list", 0).await.0.contains("echo fails"));
    assert!(run("executor pause exec", 0).await.0.contains("paused"));
    assert!(run("executor resume exec", 0).await.0.contains("ready"));
    // Text that is not JSON is text; numbers keep their digits.
    let (value, _) = run("enqueue echo m31.fits 1e-7 [1,2] -5 --kwarg x=1 --wait", 0).await;
    assert_eq!(value, r#"["m31.fits",1e-7,[1,2],-5]"#);
    let (_, error) = run("enqueue fails --wait", 1).await;
    assert!(error.contains("no such image") && error.contains("Traceback"), "{error}");
    let (id, _) =
        run("enqueue nobody.serves.it --label target=m31 --priority -3 --run-after 1h", 0).await;
    assert!(run(&format!("get {id}"), 0).await.0.contains("READY"));
    assert!(run(&format!("explain {id}"), 0).await.0.contains("no executor serves"));
    run(&format!("result {id}"), 3).await;
    let (listed, _) = run("--json list --label target=m31", 0).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (&listed["items"][0]["id"], &listed["items"][0]["priority"]),
        (&id.clone().into(), &(-3).into())
    );
    assert_eq!(run(&format!("cancel {id}"), 0).await.0, format!("{id} CANCELLED"));
    run(&format!("result {id}"), 1).await;
    assert_eq!(run(&format!("retry {id}"), 0).await.0, format!("{id} READY"));
    let (_, error) = run(&format!("delete {id}"), 2).await;
    assert!(error.contains("task_not_finished"), "{error}");
    run(&format!("cancel {id}"), 0).await;
    assert_eq!(run(&format!("delete {id}"), 0).await.0, format!("{id} deleted"));
    run("executor delete exec", 0).await;
    let (_, error) = run("executor get exec", 2).await;
    assert!(error.contains("executor_not_found"), "{error}");
    run(&format!("logs {}", enqueue(&service.client, &TaskRequest::new("x")).await), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_a_new_executor_may_lie_in_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let executor = TestExecutor::start(|_| Reply::ok("1")).await;
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let put = async |secret: &str| {
        let output = binary()
            .args(["--server", &service.server, "executor", "put", "exec"])
            .args(["--url", &executor.url(), "--task-path", "a"])
            .env("NIGHTSHIFT_SECRET", secret)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && !said.contains("whsec_"), "{said}");
    };
    put(SECRET).await;
    // It may be that of another executor now.
    put("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").await;
    enqueue(&service.client, &TaskRequest::new("a")).await;
    executor.called(1).await;
    let call = &executor.calls()[0];
    assert!(verify(call, SECRET, &call.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_says_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let other = format!("sqlite://{}", folder.path().join("other.db").display());
    let migrate = async |arguments: &[&str]| {
        let output = binary().arg("migrate").args(arguments).output().await.unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    for expected in ["ran 0001", "the schema is up to date"] {
        let text = migrate(&["--database-url", &url]).await;
        assert!(text.starts_with(expected), "{text}");
    }
    for is_new in [true, false] {
        let text = migrate(&["--json", "--database-url", &other]).await;
        let ran: Value = serde_json::from_str(&text).unwrap();
        let ran = ran["ran"].as_array().unwrap();
        assert_eq!(ran.first().is_some_and(|first| first == "0001"), is_new, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_as_it_should() {
    let output =
        soon("the end of the demo", binary().args(["demo", "--ci"]).output()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("7 of 7 tasks ended as they should"), "{text}");
}
