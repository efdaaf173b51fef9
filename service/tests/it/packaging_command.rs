//! What containers, systemd and packages use of the binary.

use std::{fs, process::Output};

use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixDatagram};

use crate::support::{
    process::{Service, binary},
    soon,
};

async fn output(arguments: &[&str]) -> Output {
    soon("the end of a command", binary().args(arguments).output()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_0_if_the_service_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let output = service.run(&["health"]).await;
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, format!("{} is ready\n", service.server));
    let json = service.run(&["--json", "health"]).await;
    let said: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(said, json!({ "server": service.server, "ready": true }));
    let server = service.server.clone();
    service.kill().await;
    let output = output_of_health(&server, "5").await;
    assert_eq!(output.0, Some(1));
    assert!(output.1.starts_with(&format!("error: {server} is not ready: ")), "{}", output.1);
    let json = self::output(&["--json", "--server", &server, "health"]).await;
    assert_eq!((json.status.code(), json.stderr), (Some(1), Vec::new()));
    let said: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&said["server"], &said["ready"]), (&json!(server), &json!(false)));
    assert!(said["error"].as_str().unwrap().contains("cannot be reached"), "{said}");
    // Containers know no other status, whatever the reason.
    let odd = output_of_health("nowhere", "5").await;
    assert_eq!(odd.0, Some(1), "{}", odd.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_does_not_wait_for_ever() {
    // It is connected to, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", silent.local_addr().unwrap());
    let (code, said) = output_of_health(&server, "1").await;
    assert_eq!(code, Some(1));
    assert_eq!(said, format!("error: {server} is not ready: no answer within 1s\n"));
}

async fn output_of_health(server: &str, timeout: &str) -> (Option<i32>, String) {
    let output = output(&["--server", server, "health", "--timeout", timeout]).await;
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_when_the_service_is_ready_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    let mut child = binary()
        .args(["serve", "--bind", "127.0.0.1:0", "--database-url", "sqlite://test.db"])
        .current_dir(folder.path())
        .env("NOTIFY_SOCKET", &socket)
        .spawn()
        .unwrap();
    assert_eq!(heard(&systemd).await.trim(), "READY=1");
    let pid = child.id().unwrap().to_string();
    std::process::Command::new("kill").arg(pid).status().unwrap();
    assert_eq!(heard(&systemd).await.trim(), "STOPPING=1");
    assert!(soon("the end of the service", child.wait()).await.unwrap().success());
}

async fn heard(socket: &UnixDatagram) -> String {
    let mut message = [0; 256];
    let bytes = soon("a message to systemd", socket.recv(&mut message)).await.unwrap();
    String::from_utf8(message[..bytes].to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shell_gets_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = output(&["completions", shell]).await;
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["enqueue", "database-url"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(!script.contains("compile-plugin"), "{shell}: that is for the service alone");
    }
    let output = output(&["completions", "cobol"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("invalid value 'cobol'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_gets_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert!(output(&["man", path]).await.status.success());
    let page = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(page("nightshift.1").contains("Background tasks for any web stack"));
    assert!(page("nightshift-serve.1").contains("database\\-url"));
    assert!(page("nightshift-executor-put.1").contains("task\\-path"));
    let hidden = folder.path().join("nightshift-compile-plugin.1");
    assert!(!hidden.exists(), "a command that is not for people has a page");

    let output = output(&["man", &format!("{path}/absent")]).await;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: the manual pages cannot be written to "), "{said}");
}
