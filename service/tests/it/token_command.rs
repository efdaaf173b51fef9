//! `nightshift token` and `nightshift audit`, and commands that show a token.

use std::process::Output;

use crate::support::{
    process::{Service, binary},
    soon,
};

async fn run(service: &Service, token: &str, arguments: &[&str]) -> Output {
    let mut command = binary();
    command.args(["--server", &service.server]).args(arguments);
    let output = command.env("NIGHTSHIFT_TOKEN", token).output();
    soon("the end of the command", output).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_shown_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let refused = run(&service, "", &["token", "create", "web", "--scope", "enqueue"]).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("admin_token_needed"), "{refused:?}");

    let made = run(&service, "", &["token", "create", "ops", "--scope", "admin"]).await;
    let ops = text(&made.stdout).trim().to_owned();
    assert!(made.status.success() && ops.starts_with("nst_"), "{made:?}");
    let without = run(&service, "", &["stats"]).await;
    assert!(text(&without.stderr).contains("unauthorized"), "{without:?}");
    let odd = run(&service, "a\nb", &["stats"]).await;
    assert!(text(&odd.stderr).contains("the token is none"), "{odd:?}");

    let wish = ["token", "create", "web", "--scope", "enqueue", "--scope", "read"];
    let bound = ["--queue", "images", "--expires-at", "2999-01-01T00:00:00Z"];
    let web = text(&run(&service, &ops, &[&wish[..], &bound].concat()).await.stdout);
    let enqueue = ["enqueue", "a.b", "--queue", "images"];
    assert!(run(&service, web.trim(), &enqueue).await.status.success());
    let list = text(&run(&service, &ops, &["token", "list"]).await.stdout);
    for shown in ["ops", "web", "enqueue read", "images", "2999-01-01"] {
        assert!(list.contains(shown), "{shown}: {list}");
    }
    assert!(run(&service, &ops, &["token", "delete", "web"]).await.status.success());
    assert!(!run(&service, web.trim(), &enqueue).await.status.success());
    let audit = text(&run(&service, &ops, &["audit", "--limit", "2"]).await.stdout);
    assert!(audit.contains("revoke_token") && audit.contains("create_token"), "{audit}");
    assert_eq!(audit.trim().lines().count(), 3, "{audit}");

    // Neither secret is anywhere but with whoever has it.
    service.signal("TERM");
    let (status, log) = service.exited().await;
    assert_eq!(status, Some(0));
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in [ops.as_bytes(), web.trim().as_bytes()] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret));
        }
    }
    assert!(!log.contains(&ops) && !log.contains(web.trim()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_token_opens_other_addresses() {
    const TOKEN: &str = "a-token-from-a-file-that-is-long-enough";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin-token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let file = file.to_str().unwrap();
    let service = Service::start(folder.path(), "0.0.0.0:0", &["--admin-token-file", file]).await;
    assert!(!run(&service, "", &["stats"]).await.status.success());
    assert!(run(&service, TOKEN, &["stats"]).await.status.success());
    service.signal("TERM");
    assert_eq!(service.exited().await.0, Some(0));
}
