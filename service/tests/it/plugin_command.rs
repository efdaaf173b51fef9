//! `nightshift plugin`: with a service, and without one.

use std::{os::unix::fs::PermissionsExt, process::Output};

use nightshift_guests::{self as guests, GUEST, changed};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    process::{Service, binary},
    soon,
};

/// A folder with two versions of the guest.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("guest.wasm"), guests::plugin(GUEST)).unwrap();
    let other = changed("guest.trap", "other.echo");
    std::fs::write(folder.path().join("other.wasm"), other).unwrap();
    folder
}

/// Runs a command that needs no service.
async fn alone(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = binary();
    command.arg("plugin").args(arguments).current_dir(folder.path());
    soon("the end of a command", command.output()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_component_is_checked_without_a_service() {
    let folder = folder();
    let output = alone(&folder, &["check", "guest.wasm", "--json"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(checked["tasks"][1]["task_path"], "guest.trap");
    assert_eq!(checked["tasks"][1]["timeout_seconds"], 90.0);
    std::fs::write(folder.path().join("text"), "hello").unwrap();
    for (file, words) in [("text", "it is not WebAssembly"), ("none", "cannot read none")] {
        let output = alone(&folder, &["check", file]).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
}

#[tokio::test]
async fn a_task_is_tried_without_a_service() {
    let folder = folder();
    let run = async |arguments: &[&str]| {
        alone(&folder, &[&["run", "guest.wasm"], arguments].concat()).await
    };
    let output = run(&["guest.echo", "--args", "[1, \"é\"]"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "[1, \"é\"]\n");
    let output = run(&["guest.xerror"]).await;
    assert_eq!(output.status.code(), Some(1));
    let expected = "GuestError: no luck today (may be tried again)\nline 7 of guest\n";
    assert_eq!(text(&output.stdout), expected);
    for (arguments, words) in [
        (
            &["guest.memory", "--memory-mib", "2"][..],
            "OutOfMemory: the plugin needed more than its 2",
        ),
        (
            &["guest.loop", "--timeout", "0.1"],
            "Timeout: the run took longer than 0.1 s (may be tried again)",
        ),
        (&["guest.garbage"], "Rejected: what the plugin returned is not JSON"),
        (&["guest.outside", "--args", "[\"http://127.0.0.1:9/\"]"], "\"denied\""),
    ] {
        let output = run(arguments).await;
        assert!(text(&output.stdout).contains(words), "{arguments:?}: {}", text(&output.stdout));
    }
    let granted = ["guest.outside", "--args", "[\"http://127.0.0.1:9/\"]", "--http", "127.0.0.1:9"];
    assert_eq!(text(&run(&granted).await.stdout), "\"failed\"\n", "nobody listens there");
    let output = run(&["guest.flood", "--repeat", "3", "--at-once", "2"]).await;
    let said = text(&output.stderr);
    assert!(said.contains("Info: a line") && said.contains("50 % half of it"), "{said}");
    assert!(said.contains("3 runs, 2 at once: mean "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_installed_shown_rolled_back_and_removed() {
    let folder = folder();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let run = async |arguments: &[&str]| {
        let output = service.run(&[&["plugin"], arguments].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let shown = run(&["install", "guest", "guest.wasm"]).await;
    assert!(shown.contains("(active)") && shown.contains("guest.trap"), "{shown}");
    assert!(run(&["install", "guest", "other.wasm"]).await.contains("other.echo"));
    assert!(run(&["list"]).await.contains("guest.echo other.echo"));
    assert!(run(&["rollback", "guest"]).await.contains("guest.trap"));
    let output = service.run(&["executor", "list"]).await;
    assert!(text(&output.stdout).contains("(plugin guest)"), "{}", text(&output.stdout));
    let put = [
        "executor",
        "put",
        "guest",
        "--plugin",
        "guest",
        "--memory-mib",
        "64",
        "--grant-http",
        "*.example.org",
        "--grant-directory",
        "images",
        "--grant-env",
        "KEY=secret",
    ];
    let shown = text(&service.run(&put).await.stdout);
    for part in ["64 MiB", "*.example.org", "images", "KEY"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(!shown.contains("secret"), "{shown}");
    // A setting that is not given stays, also one that is never shown.
    let put = async |arguments: &[&str]| {
        let output = service.run(&[&["executor", "put", "guest"], arguments].concat()).await;
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (status, shown) = put(&["--grant-http", "10.0.0.7:8000"]).await;
    assert_eq!(status, Some(0), "{shown}");
    for part in ["64 MiB", "*.example.org 10.0.0.7:8000", "images", "KEY", "guest.echo"] {
        assert!(shown.contains(part), "{shown}");
    }
    let (_, shown) = put(&["--revoke", "images", "--revoke", "*.example.org"]).await;
    assert!(!shown.contains("images") && !shown.contains("example.org"), "{shown}");
    assert!(shown.contains("10.0.0.7:8000") && shown.contains("KEY"), "{shown}");
    assert_eq!(put(&["--revoke", "images"]).await.0, Some(2), "it was");
    let (_, shown) = put(&["--plugin", "guest", "--reset"]).await;
    assert!(shown.contains("128 MiB") && !shown.contains("KEY"), "{shown}");
    let get: Value = serde_json::from_str(&run(&["get", "guest", "--json"]).await).unwrap();
    assert_eq!(get["versions"].as_array().unwrap().len(), 2);
    run(&["delete", "guest"]).await;
    assert!(!run(&["list"]).await.contains("guest"));
    let output = service.run(&["plugin", "get", "guest"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("plugin_not_found"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn installing_beside_another_executor_says_that_nothing_runs_the_plugin() {
    let folder = folder();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let worker = ["executor", "put", "guest", "--task-path", "other.*"];
    assert_eq!(service.run(&worker).await.status.code(), Some(0));
    let install = ["plugin", "install", "guest", "guest.wasm"];
    let output = service.run(&install).await;
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    let command = "nightshift executor put OTHER_NAME --plugin guest";
    assert!(said.contains(command), "{said}");
    let beside = ["executor", "put", "beside", "--plugin", "guest"];
    assert_eq!(service.run(&beside).await.status.code(), Some(0));
    assert_eq!(service.run(&install).await.status.code(), Some(0), "something does now");
}

#[tokio::test]
async fn a_new_plugin_begins_with_the_interface_and_a_template() {
    let folder = tempfile::tempdir().unwrap();
    let output = alone(&folder, &["new", "survey"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let read =
        |file: &str| std::fs::read_to_string(folder.path().join("survey").join(file)).unwrap();
    assert!(read("wit/plugin.wit").contains("package nightshift:plugin@"));
    assert!(read("plugin.py").contains("survey.magnitude") && !read("plugin.py").contains("NAME"));
    assert!(read("nightshift_plugin.py").contains("def fetch("));
    // The files there are somebody's work.
    assert_eq!(alone(&folder, &["new", "survey"]).await.status.code(), Some(2));
    let interface = ["new", "other", "--language", "none"];
    assert_eq!(text(&alone(&folder, &interface).await.stdout), "other/wit/plugin.wit\n");
}

#[tokio::test]
async fn machine_code_that_cannot_be_kept_is_not_compiled_here() {
    let folder = folder();
    let cache = folder.path().join("cache/nightshift/plugins");
    std::fs::create_dir_all(cache.join("code")).unwrap();
    let mut mode = std::fs::metadata(&cache).unwrap().permissions();
    mode.set_mode(0o700);
    std::fs::set_permissions(&cache, mode).unwrap();
    // A folder is to be there, so that nothing can be written, as on a disk that is full.
    std::fs::write(cache.join("code/modules"), "").unwrap();
    let mut command = binary();
    command.env("XDG_CACHE_HOME", folder.path().join("cache"));
    command.args(["plugin", "check", "guest.wasm"]).current_dir(folder.path());
    let output = soon("the end of a command", command.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    let said = text(&output.stderr);
    assert!(said.contains("the machine code cannot be kept in"), "{said}");
}
