//! Plugins: installing and replacing them, and what becomes of the tasks that they run.

use std::{os::unix::fs::PermissionsExt, sync::Arc};

use nightshift_client::types::{
    ErrorCode, ExecutorKind, ExecutorRequest, Grants, LogLevel, Plugin, ReasonCode,
    RollbackRequest, TaskErrorKind, TaskRequest, TaskStatus,
};
use nightshift_guests::{self as guests, GUEST, changed};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use crate::support::{
    app::{Builder, TestApp, json},
    executor::{Reply, TestExecutor},
    on_both_engines, soon, until,
};

async fn install(app: &TestApp, name: &str, component: Vec<u8>) -> Plugin {
    app.client.put_plugin(name, component).await.unwrap()
}

pub async fn install_guest(app: &TestApp) -> Plugin {
    install(app, "guest", guests::plugin(GUEST)).await
}

/// Serves all of the guest's tasks, also those that it does not describe.
pub async fn register(app: &TestApp, change: impl FnOnce(&mut ExecutorRequest)) {
    let mut request = ExecutorRequest {
        kind: ExecutorKind::Wasm,
        plugin: Some("guest".to_owned()),
        task_paths: vec!["guest.*".to_owned()],
        max_attempts: Some(1),
        ..ExecutorRequest::default()
    };
    change(&mut request);
    app.client.put_executor("all", &request).await.unwrap();
}

pub fn task(name: &str, args: &str) -> TaskRequest {
    TaskRequest { args: json(args), ..TaskRequest::new(format!("guest.{name}")) }
}

fn paths(plugin: &Plugin) -> Vec<&str> {
    plugin.tasks.iter().map(|task| task.task_path.as_str()).collect()
}

on_both_engines! {
    async fn an_installed_plugin_runs_the_tasks_that_it_describes(app: App) {
        let app = app.start();
        let plugin = install_guest(&app).await;
        assert_eq!(paths(&plugin), ["guest.echo", "guest.trap"]);
        assert_eq!(plugin.tasks[0].summary, "Does what its name says.");
        assert_eq!(plugin.digest.len(), 64);
        assert_eq!(plugin.versions.len(), 1);
        assert_eq!(app.client.get_plugin("guest").await.unwrap(), plugin);
        assert_eq!(app.client.list_plugins(None, None).await.unwrap().items, [plugin]);
        let executor = app.client.get_executor("guest").await.unwrap();
        assert_eq!(executor.task_paths, ["guest.echo", "guest.trap"]);
        assert_eq!((executor.plugin.as_deref(), executor.memory_mib), (Some("guest"), Some(128)));
        let enqueued = app.enqueue_with(task("echo", "[1, 2]")).await;
        assert_eq!((enqueued.timeout_seconds, enqueued.max_attempts), (90.0, 2), "as described");
        let ended = app.end(enqueued.id).await;
        assert_eq!(ended.return_value, json("[1, 2]"));
        assert_eq!((ended.timeout_seconds, ended.max_attempts), (90.0, 2));
        assert_eq!(ended.executor.as_deref(), Some("guest"));
    }

    async fn what_is_no_plugin_is_refused_and_the_old_version_stays(app: App) {
        let mut app = app;
        app.config.plugin_bytes_max = 20_000;
        let app = app.start();
        let before = install_guest(&app).await;
        let core = wat::parse_str("(module)").unwrap();
        let empty = wat::parse_str("(component)").unwrap();
        let trap = changed(
            "(call $info (i32.const 1024)",
            "unreachable (call $info (i32.const 1024)",
        );
        let wildcard = changed("guest.echo", "guest.ech*");
        let twice = changed("guest.trap", "guest.echo");
        let nothing = changed("(i32.store (i32.const 1004) (i32.const 2))",
            "(i32.store (i32.const 1004) (i32.const 0))");
        let attempts = changed("(i32.store offset=52 (local.get $at) (i32.const 2))",
            "(i32.store offset=52 (local.get $at) (i32.const 0))");
        for (component, code, reason) in [
            (b"hello".to_vec(), ErrorCode::InvalidPlugin, "it is not WebAssembly"),
            (core, ErrorCode::InvalidPlugin, "core module"),
            (empty, ErrorCode::InvalidPlugin, "nightshift:plugin/plugin@0.1.0"),
            (trap, ErrorCode::InvalidPlugin, "describe() ended badly"),
            (wildcard, ErrorCode::InvalidPlugin, r#"task_path: "guest.ech*" must not contain '*'"#),
            (twice, ErrorCode::InvalidPlugin, "name guest.echo twice"),
            (nothing, ErrorCode::InvalidPlugin, "must be 1 to 1000, not 0"),
            (attempts, ErrorCode::InvalidPlugin, "max_attempts: must be 1 to 100"),
            (vec![0; 20_001], ErrorCode::BodyTooLarge, "more than 20000 bytes"),
        ] {
            let error = app.client.put_plugin("guest", component).await.unwrap_err();
            assert_eq!(error.code(), Some(code), "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        }
        let text = app.request("PUT", "/plugins/guest").header("content-type", "text/plain");
        assert_eq!(app.send(text.body("hello")).await.problem(), "415 unsupported_media_type -");
        let name = app.request("PUT", "/plugins/a%20b").header("content-type", "application/wasm");
        assert_eq!(app.send(name.body("hello")).await.problem(), "422 invalid_field /name");
        assert_eq!(app.client.get_plugin("guest").await.unwrap(), before);
        let id = app.enqueue_with(task("echo", "[7]")).await.id;
        assert_eq!(app.end(id).await.status, TaskStatus::Successful);
    }

    async fn b11_each_trouble_ends_as_its_own_error(app: App) {
        let app = app.start();
        install_guest(&app).await;
        register(&app, |_| {}).await;
        for (name, kind, class, words) in [
            ("trap", TaskErrorKind::Trap, "wasm.Trap", "gave up"),
            ("wild", TaskErrorKind::Trap, "wasm.Trap", "out of bounds"),
            ("recurse", TaskErrorKind::Trap, "wasm.StackOverflow", "recursed too deeply"),
            ("memory", TaskErrorKind::Trap, "wasm.OutOfMemory", "more than its 128 MiB"),
            ("huge", TaskErrorKind::Rejected, "wasm.TooLarge", "more than 16 MiB at once"),
            ("garbage", TaskErrorKind::Rejected, "-", "it is not JSON"),
            ("xerror", TaskErrorKind::Exception, "GuestError", "no luck today"),
        ] {
            let ended = app.end(app.enqueue_with(task(name, "[]")).await.id).await;
            assert_eq!(ended.status, TaskStatus::Failed, "{name}");
            let [error] = &ended.errors[..] else { panic!("{name}: {:?}", ended.errors) };
            assert_eq!(error.kind, kind, "{name}: {error:?}");
            assert_eq!(error.exception_class_path.as_deref().unwrap_or("-"), class, "{name}");
            assert!(error.message.contains(words), "{name}: {error:?}");
        }
        let ended = app.end(app.enqueue_with(task("echo", "[3]")).await.id).await;
        assert_eq!(ended.return_value, json("[3]"), "the service and its neighbours go on");
    }

    async fn a_return_value_has_a_bound(app: App) {
        let mut app = app;
        app.config.return_value_bytes_max = 10;
        let app = app.start();
        install_guest(&app).await;
        let ended = app.end(app.enqueue_with(task("echo", "[1, 2, 34]")).await.id).await;
        assert_eq!(ended.return_value, json("[1, 2, 34]"));
        let ended = app.end(app.enqueue_with(task("echo", "[1, 2, 345]")).await.id).await;
        assert_eq!(ended.errors[0].kind, TaskErrorKind::Rejected);
        assert!(ended.errors[0].message.contains("more than 10 bytes"), "{:?}", ended.errors);
    }

    async fn an_error_is_tried_again_if_the_plugin_says_so(app: App) {
        let app = app.start();
        install_guest(&app).await;
        register(&app, |request| request.max_attempts = Some(2)).await;
        let backoff = nightshift_client::types::Backoff {
            initial_seconds: Some(0.0),
            ..Default::default()
        };
        for (name, attempts) in [("xerror", 2), ("yerror", 1)] {
            let request = TaskRequest { backoff: Some(backoff), ..task(name, "[]") };
            let ended = app.end(app.enqueue_with(request).await.id).await;
            assert_eq!(ended.attempts, attempts, "{name}");
            assert_eq!(ended.errors[0].traceback.as_deref(), Some("line 7 of guest"));
        }
    }

    async fn an_endless_loop_ends_at_its_timeout_or_when_it_is_cancelled(app: App) {
        let app = app.start();
        install_guest(&app).await;
        register(&app, |_| {}).await;
        let short = TaskRequest { timeout_seconds: Some(0.3), ..task("loop", "[]") };
        let ended = app.end(app.enqueue_with(short).await.id).await;
        assert_eq!(ended.status, TaskStatus::Failed);
        assert_eq!(ended.errors[0].kind, TaskErrorKind::Timeout);
        let id = app.enqueue_with(task("loop", "[]")).await.id;
        app.task_when(id, |task| task.status == TaskStatus::Running).await;
        app.client.cancel_task(id, false).await.unwrap();
        assert_eq!(app.end(id).await.status, TaskStatus::Cancelled);
    }

    async fn what_was_said_before_a_timeout_is_kept(app: App) {
        let app = app.start();
        install_guest(&app).await;
        register(&app, |_| {}).await;
        let short = TaskRequest { timeout_seconds: Some(1.0), ..task("cry", "[]") };
        let ended = app.end(app.enqueue_with(short).await.id).await;
        assert_eq!(ended.errors[0].kind, TaskErrorKind::Timeout);
        let lines = app.client.get_task_logs(ended.id, None, None).await.unwrap().items;
        assert_eq!(lines.len(), 1);
    }

    async fn what_a_plugin_says_is_in_the_record_of_its_task(app: App) {
        let app = app.start();
        install_guest(&app).await;
        register(&app, |_| {}).await;
        let id = app.enqueue_with(task("flood", "[]")).await.id;
        let ended = app.end(id).await;
        assert_eq!(ended.status, TaskStatus::Successful);
        let progress = ended.progress.unwrap();
        assert_eq!((progress.fraction, progress.message.as_deref()), (Some(0.5), Some("half of it")));
        let lines = app.client.get_task_logs(id, None, Some(1_000)).await.unwrap();
        assert_eq!(lines.items.len(), 1_000);
        assert_eq!((lines.items[0].message.as_str(), lines.items[0].level), ("a line", LogLevel::Info));
        let cursor = lines.next_cursor.unwrap();
        let rest = app.client.get_task_logs(id, Some(&cursor), None).await.unwrap().items;
        assert_eq!(rest.len(), 1);
        assert!(rest[0].message.starts_with("4000 more lines were dropped"), "{rest:?}");
    }

    async fn what_runs_keeps_its_version_while_another_is_installed(app: App) {
        let app = app.start();
        let gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&gate);
        let site = TestExecutor::start(move |_| {
            Reply::Later(Arc::clone(&held), Box::new(Reply::status(200)))
        })
        .await;
        let host = format!("127.0.0.1:{}", site.port());
        let url = format!("[\"http://{host}/\"]");
        install(&app, "guest", changed("reached", "first 1")).await;
        let grants = Grants { http: vec![host], ..Grants::default() };
        register(&app, |request| request.grants = Some(grants)).await;
        let old = app.enqueue_with(task("outside", &url)).await.id;
        site.called(1).await;
        let after = install(&app, "guest", changed("reached", "second2")).await;
        assert_eq!(after.versions.len(), 2);
        gate.add_permits(10);
        assert_eq!(app.end(old).await.return_value, json("\"first 1\""));
        let new = app.enqueue_with(task("outside", &url)).await.id;
        assert_eq!(app.end(new).await.return_value, json("\"second2\""));
        let back = app.client.roll_back_plugin("guest", &RollbackRequest::default()).await.unwrap();
        assert_eq!(back.digest, after.versions[1].digest);
        let new = app.enqueue_with(task("outside", &url)).await.id;
        assert_eq!(app.end(new).await.return_value, json("\"first 1\""));
    }

    async fn the_executor_follows_what_its_plugin_describes(app: App) {
        let app = app.start();
        install_guest(&app).await;
        register(&app, |_| {}).await;
        let waiting = app.enqueue("other.echo").await.id;
        install(&app, "guest", changed("guest.trap", "other.echo")).await;
        let paths = app.client.get_executor("guest").await.unwrap().task_paths;
        assert_eq!(paths, ["guest.echo", "other.echo"]);
        let chosen = app.client.get_executor("all").await.unwrap().task_paths;
        assert_eq!(chosen, ["guest.*"], "whoever chose paths keeps them");
        assert_eq!(app.end(waiting).await.status, TaskStatus::Successful);
    }

    async fn what_was_active_before_is_what_one_goes_back_to(app: App) {
        let app = app.start();
        let mut digests = Vec::new();
        for number in 0..5 {
            let component = changed("reached", &format!("answer{number}"));
            digests.push(install(&app, "guest", component).await.digest);
        }
        let to = RollbackRequest { digest: Some(digests[0].clone()) };
        app.client.roll_back_plugin("guest", &to).await.unwrap();
        let sixth = install(&app, "guest", changed("reached", "answer9")).await;
        assert_eq!(sixth.versions.len(), 5);
        let before = app.client.roll_back_plugin("guest", &RollbackRequest::default()).await.unwrap();
        assert_eq!(before.digest, digests[0], "not the one that was left for it");
        let again = app.client.roll_back_plugin("guest", &RollbackRequest::default()).await.unwrap();
        assert_eq!(again.digest, sixth.digest);
    }

    async fn so_many_versions_are_kept_to_go_back_to(app: App) {
        let app = app.start();
        let mut digests = Vec::new();
        for number in 0..7 {
            let plugin = install(&app, "guest", changed("reached", &format!("answer{number}"))).await;
            digests.insert(0, plugin.digest);
        }
        let plugin = app.client.get_plugin("guest").await.unwrap();
        let kept: Vec<&str> = plugin.versions.iter().map(|version| version.digest.as_str()).collect();
        assert_eq!(kept, &digests[..5]);
        let to = |digest: &str| RollbackRequest { digest: Some(digest.to_owned()) };
        let back = app.client.roll_back_plugin("guest", &to(&digests[4])).await.unwrap();
        assert_eq!(back.digest, digests[4]);
        let gone = app.client.roll_back_plugin("guest", &to(&digests[6])).await.unwrap_err();
        assert_eq!(gone.code(), Some(ErrorCode::PluginNotFound), "{gone}");
        install(&app, "other", guests::plugin(GUEST)).await;
        let only = app.client.roll_back_plugin("other", &RollbackRequest::default()).await;
        assert_eq!(only.unwrap_err().code(), Some(ErrorCode::PluginNotFound));
        let error = app.client.roll_back_plugin("guest", &to("xyz")).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::InvalidField), "{error}");
        let error = app.client.roll_back_plugin("none", &RollbackRequest::default()).await;
        assert_eq!(error.unwrap_err().code(), Some(ErrorCode::PluginNotFound));
    }

    async fn a_plugin_is_forgotten_once_no_other_executor_runs_it(app: App) {
        let app = app.start();
        install_guest(&app).await;
        register(&app, |_| {}).await;
        let error = app.client.delete_plugin("guest").await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::PluginInUse), "{error}");
        app.client.delete_executor("all").await.unwrap();
        app.client.delete_plugin("guest").await.unwrap();
        for gone in [
            app.client.get_plugin("guest").await.unwrap_err(),
            app.client.delete_plugin("guest").await.unwrap_err(),
        ] {
            assert_eq!(gone.code(), Some(ErrorCode::PluginNotFound), "{gone}");
        }
        let gone = app.client.get_executor("guest").await.unwrap_err();
        assert_eq!(gone.code(), Some(ErrorCode::ExecutorNotFound), "{gone}");
        let waiting = app.enqueue_with(task("echo", "[1]")).await;
        assert_eq!(waiting.executor, None);
        install_guest(&app).await;
        assert_eq!(app.end(waiting.id).await.status, TaskStatus::Successful);
    }

    async fn what_an_executor_grants_is_checked_and_its_values_are_not_shown(app: App) {
        let app = app.start();
        install_guest(&app).await;
        let environment = [("KEY".to_owned(), Some("s3cret".to_owned()))].into();
        let grants = Grants {
            http: vec!["*.example.org".to_owned()],
            directories: vec!["images".to_owned()],
            environment,
        };
        register(&app, |request| request.grants = Some(grants)).await;
        let shown = app.send(app.request("GET", "/executors/all")).await;
        assert_eq!(shown.json()["grants"]["environment"][0], "KEY");
        assert!(!shown.text.contains("s3cret"), "{shown:?}");
        // The service has no such directory, so the task waits, and says why.
        app.client.delete_executor("guest").await.unwrap();
        let id = app.enqueue_with(task("echo", "[1]")).await.id;
        let held = app.task_when(id, |task| task.deliveries > 0 && task.status == TaskStatus::Ready).await;
        assert_eq!(held.attempts, 0, "it was not begun");
        // Between a hold and the next the executor is tried again.
        let held = until("a hold", || async {
            let reasons = app.client.explain_task(id).await.unwrap().reasons;
            reasons.into_iter().find(|reason| reason.code == ReasonCode::ExecutorHeld)
        })
        .await;
        assert!(held.detail.contains("the directory images"), "{held:?}");
        for (body, problem) in [
            (r#"{"kind": "wasm"}"#, "422 invalid_field /plugin"),
            (r#"{"kind": "wasm", "plugin": "none"}"#, "422 invalid_field /plugin"),
            (r#"{"kind": "wasm", "plugin": "a b"}"#, "422 invalid_field /plugin"),
            (r#"{"kind": "wasm", "plugin": "guest", "memory_mib": 0}"#, "422 invalid_field /memory_mib"),
            (r#"{"kind": "wasm", "plugin": "guest", "url": "http://a"}"#, "422 invalid_field /url"),
            (r#"{"kind": "wasm", "plugin": "guest", "grants": {"http": ["a/b"]}}"#, "422 invalid_field /grants/http"),
            (r#"{"kind": "wasm", "plugin": "guest", "grants": {"directories": ["../etc"]}}"#, "422 invalid_field /grants/directories"),
            (r#"{"kind": "wasm", "plugin": "guest", "grants": {"environment": {"KEY": null}}}"#, "422 invalid_field /grants/environment"),
            (r#"{"kind": "wasm", "plugin": "guest", "grants": {"environment": {"A=B": "c"}}}"#, "422 invalid_field /grants/environment"),
            (r#"{"kind": "wasm", "plugin": "guest", "grants": {"files": []}}"#, "422 invalid_field /grants/files"),
            (r#"{"kind": "worker", "task_paths": ["*"], "plugin": "guest"}"#, "422 invalid_field /plugin"),
            (r#"{"kind": "worker"}"#, "422 invalid_field /task_paths"),
        ] {
            let request = app.request("PUT", "/executors/x").header("content-type", "application/json");
            assert_eq!(app.send(request.body(body)).await.problem(), problem, "{body}");
        }
    }

    async fn a_plugin_gets_what_its_executor_grants(app: App) {
        let mut app = app;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        app.config.plugin_directories = [("images".to_owned(), folder.path().to_owned())].into();
        let app = app.start();
        install(&app, "guest", guests::wasi()).await;
        let seen = async |name: &str| {
            let ended = app.end(app.enqueue_with(task(name, "[]")).await.id).await;
            ended.return_value.unwrap().to_string()
        };
        register(&app, |_| {}).await;
        app.client.delete_executor("guest").await.unwrap();
        assert_eq!(seen("variables").await, "0");
        assert_eq!(seen("directories").await, "0");
        let grants = Grants {
            directories: vec!["images".to_owned()],
            environment: [("KEY".to_owned(), Some("value".to_owned()))].into(),
            ..Grants::default()
        };
        register(&app, |request| request.grants = Some(grants)).await;
        assert_eq!(seen("variables").await, "1");
        assert_eq!(seen("directories").await, "1");
        assert_eq!(seen("read").await, "0", "no error");
    }

    async fn a_request_goes_to_granted_hosts_only(app: App) {
        let app = app.start();
        let site = TestExecutor::start(|_| Reply::status(200)).await;
        let url = format!("[\"http://127.0.0.1:{}/\"]", site.port());
        install_guest(&app).await;
        register(&app, |_| {}).await;
        let id = app.enqueue_with(task("outside", &url)).await.id;
        assert_eq!(app.end(id).await.return_value, json("\"denied\""));
        let http = vec![format!("127.0.0.1:{}", site.port())];
        register(&app, |request| request.grants = Some(Grants { http, ..Grants::default() })).await;
        let id = app.enqueue_with(task("outside", &url)).await.id;
        assert_eq!(app.end(id).await.return_value, json("\"reached\""));
        assert_eq!(site.calls().len(), 1);
    }

    async fn plugins_are_there_after_a_restart(app: App) {
        let app = app.start();
        let before = install_guest(&app).await;
        let app = app.stop().await.start();
        assert_eq!(app.client.get_plugin("guest").await.unwrap(), before);
        let id = app.enqueue_with(task("echo", "[1]")).await.id;
        assert_eq!(app.end(id).await.status, TaskStatus::Successful);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_others_can_write_to_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let everybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), everybody).unwrap();
    let mut app = Builder::sqlite();
    app.config.plugin_cache = Some(folder.path().to_owned());
    let app = app.start();
    let error = app.client.put_plugin("guest", guests::plugin(GUEST)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Internal), "{error}");
}

/// Small components of which each takes the compiler long, or much memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_takes_too_much_to_compile_is_refused() {
    let mut app = Builder::sqlite();
    app.config.plugin_compile_seconds = 1;
    let app = app.start();
    let inside = |code: &str| changed("(func $recurse", &format!("(func {code}) (func $recurse"));
    let depth = 4_000;
    let open = "(loop (local.set 0 (i32.add (local.get 0) (i32.const 1)))";
    let close = "(br_if 0 (local.get 0)))";
    let loops = format!("(local i32) {}{}", open.repeat(depth), close.repeat(depth));
    let error = app.client.put_plugin("bomb", inside(&loops)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidPlugin), "{error}");
    assert!(error.to_string().contains("more than 1 s of processor time"), "{error}");
    let mut app = app.stop().await;
    app.config.plugin_compile_seconds = 120;
    app.config.plugin_compile_mib = 512;
    let app = app.start();
    // Each local is looked for in each block before the place where it is read.
    let uses: Vec<String> = (0..2_000).map(|n| format!("(drop (local.get {n}))")).collect();
    let blocks = "(block (br_if 0 (i32.const 1)))".repeat(20_000);
    let locals = "(local i64)".repeat(2_000) + &blocks + &uses.concat();
    let error = app.client.put_plugin("bomb", inside(&locals)).await.unwrap_err();
    assert!(error.to_string().contains("more than 512 MiB of memory"), "{error}");
    install_guest(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_wait_to_be_installed() {
    let app = Builder::sqlite().start();
    let address = app.server.trim_start_matches("http://");
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let head = "PUT /plugins/slow HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/wasm\r\n\
                    content-length: 1000\r\nexpect: 100-continue\r\n\r\n";
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100", "its body is being read");
        waiting.push(connection);
    }
    let error = app.client.put_plugin("guest", guests::plugin(GUEST)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Overloaded), "{error}");
    drop(waiting);
    until("a turn", || async { app.client.put_plugin("guest", guests::plugin(GUEST)).await.ok() })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_replicas_run_what_one_of_them_installed() {
    let folder = tempfile::tempdir().unwrap();
    let first = Builder::postgres().start();
    let second = first.replica(|builder| {
        builder.config.plugin_cache = Some(folder.path().join("plugins"));
    });
    install_guest(&first).await;
    // The database goes with what the first leaves.
    let _database = soon("the first's stop", first.stop()).await;
    let id = second.enqueue_with(task("echo", "[1]")).await.id;
    assert_eq!(second.end(id).await.status, TaskStatus::Successful);
    soon("the second's stop", second.stop()).await;
}
