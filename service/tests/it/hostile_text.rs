//! Executors' words reach the people at the command line as text, and do nothing else there.

use nightshift_client::types::{
    ErrorReport, FinishRequest, LogLevel, LogLineRequest, Progress, RenewRequest, TaskRequest,
};
use serde_json::Value;

use crate::support::{
    app::{Builder, TestApp, json},
    process::binary,
    soon,
};

/// Clears the screen, renames the window, goes back to the line's start, rings, and turns text around.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\r\u{9b}31m\u{202e}\u{e0041}";
const SHOWN: &str = "\\u001b[2J\\u001b]0;x\\u0007\\u000d\\u009b31m\\u202e\\udb40\\udc41";

/// What a command prints, on both of its outputs; there is nothing hidden in it.
async fn printed(app: &TestApp, arguments: &[&str]) -> String {
    let mut command = binary();
    command.args(["--server", &app.server]).args(arguments);
    let output = soon("the end of a command", command.output()).await.unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let hidden = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{e0041}');
    assert!(!text.contains(hidden), "{arguments:?}: {text:?}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_executors_say_is_shown_and_not_obeyed() {
    let app = Builder::sqlite().start();
    let worker = app.register_workers("tom", |_| {}).await;
    let path = "a.\u{202e}b";
    let task = TaskRequest { max_attempts: Some(1), ..TaskRequest::new(path) };
    let failed = app.enqueue_with(task.clone()).await.id.to_string();
    let lease = worker.named("w\u{202e}").next().await;
    let line = LogLineRequest { at: None, level: LogLevel::Info, message: HOSTILE.to_owned() };
    let progress = Progress { fraction: None, message: Some(HOSTILE.to_owned()) };
    let renewal = RenewRequest { progress: Some(progress), logs: vec![line] };
    app.client.renew_lease(&lease.token, &renewal).await.unwrap();
    let running = printed(&app, &["get", &failed]).await;
    assert!(running.contains(SHOWN) && running.contains("a.\\u202eb"), "{running}");
    let said = Some(HOSTILE.to_owned());
    let error = ErrorReport {
        exception_class_path: said.clone(),
        message: said.clone(),
        traceback: said,
        retryable: None,
    };
    let end = FinishRequest { error: Some(error), ..FinishRequest::default() };
    worker.finish(&lease, end).await.unwrap();
    let successful = app.enqueue_with(task).await.id.to_string();
    let lease = worker.next().await;
    let value = serde_json::to_string(HOSTILE).unwrap();
    let end = FinishRequest { return_value: json(&value), ..FinishRequest::default() };
    worker.finish(&lease, end).await.unwrap();
    for arguments in
        [&["get", &failed][..], &["result", &failed], &["logs", &failed], &["watch", &failed]]
    {
        let shown = printed(&app, arguments).await;
        assert!(shown.contains(SHOWN), "{arguments:?}: {shown}");
        // For programs it is the same JSON as before.
        let json = printed(&app, &[arguments, &["--json"]].concat()).await;
        for line in json.lines() {
            serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}"));
        }
    }
    for arguments in [&["list"][..], &["explain", &failed], &["top", "--once"], &["audit"]] {
        printed(&app, arguments).await;
    }
    let read = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    assert_eq!(read(printed(&app, &["result", &successful]).await), HOSTILE);
    let result = read(printed(&app, &["result", &successful, "--json"]).await);
    assert_eq!(result["return_value"], HOSTILE);
}
