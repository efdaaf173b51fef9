//! What befalls the SQLite file while a service uses it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use nightshift_client::{
    EnqueueOptions,
    types::{TaskRequest, TaskStatus},
};

use crate::support::{
    app::{Builder, TestApp},
    process::{Service, binary},
    soon, until,
};

fn file_of(app: &TestApp) -> PathBuf {
    app.database_url().strip_prefix("sqlite://").unwrap().into()
}

fn beside(file: &Path, end: &str) -> PathBuf {
    format!("{}{end}", file.display()).into()
}

/// Reads and writes are refused, and it says why.
async fn is_refused(app: &TestApp) {
    for request in [
        app.request("POST", "/tasks")
            .body(r#"{"task_path":"a.b"}"#)
            .header("content-type", "application/json"),
        app.request("GET", "/readyz"),
        app.request("GET", "/tasks"),
    ] {
        let answer = app.send(request).await;
        assert_eq!(answer.problem(), "503 unavailable -");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("moved, deleted or replaced"), "{detail}");
    }
    assert!(!app.store().is_usable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_moved_away_takes_nothing_until_it_is_back() {
    let app = Builder::sqlite().start();
    let file = file_of(&app);
    let before = app.enqueue("a.b").await;
    let away = beside(&file, ".away");
    fs::rename(&file, &away).unwrap();
    is_refused(&app).await;
    assert!(!file.exists(), "nothing is made in its place");
    // Nor is another one taken for it.
    fs::write(&file, "").unwrap();
    is_refused(&app).await;
    fs::rename(&away, &file).unwrap();
    app.client.get_readiness().await.unwrap();
    let after = app.enqueue("a.b").await;
    let app = app.stop().await.start();
    for id in [before.id, after.id] {
        assert_eq!(app.task(id).await.status, TaskStatus::Ready);
    }
    assert_eq!(app.count().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_deleted_or_replaced_takes_nothing() {
    let app = Builder::sqlite().start();
    let log = beside(&file_of(&app), "-wal");
    app.enqueue("a.b").await;
    let away = beside(&log, ".away");
    fs::rename(&log, &away).unwrap();
    is_refused(&app).await;
    fs::copy(&away, &log).unwrap();
    is_refused(&app).await;
    fs::rename(&away, &log).unwrap();
    app.enqueue("a.b").await;
}

/// No request comes, and it is told nevertheless.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_service_says_once_that_its_file_is_gone_and_so_does_doctor() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    fs::remove_file(folder.path().join("test.db")).unwrap();
    let refused = until("a service that is not ready", || async {
        service.client.get_readiness().await.err()
    })
    .await;
    assert!(refused.to_string().contains("moved, deleted or replaced"), "{refused}");
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let mut doctor = binary();
    doctor.args(["--server", &service.server, "doctor", "--database-url", &url]);
    let said = soon("the end of doctor", doctor.current_dir(folder.path()).output()).await.unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("a service has it open"), "{said}");
    assert!(!folder.path().join("test.db").exists(), "nothing is made in its place");
    service.signal("TERM");
    let (status, log) = service.exited().await;
    assert_eq!(status, Some(0), "{log}");
    assert_eq!(log.matches("was moved, deleted or replaced").count(), 1, "{log}");
}

/// The lock is that of the file that is meant.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_by_another_name_of_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.db");
    // A link that is there before the file is.
    symlink(&file, folder.path().join("before.db")).unwrap();
    let url = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    let service = Service::start_with(folder.path(), "127.0.0.1:0", &url("before.db"), &[]).await;
    let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600, "also where a link led to nothing");
    assert_eq!(mode(&beside(&file, ".lock")), 0o600);
    fs::create_dir(folder.path().join("sub")).unwrap();
    symlink("../test.db", folder.path().join("sub/link.db")).unwrap();
    for name in ["test.db", "before.db", "sub/link.db"] {
        let said = start_error(&url(name)).await;
        assert!(said.contains("in use by another nightshift"), "{name}: {said}");
    }
    fs::hard_link(&file, folder.path().join("hard.db")).unwrap();
    let said = start_error(&url("hard.db")).await;
    assert!(said.contains("has 2 names (hard links)"), "{said}");
    service.client.create_task(&TaskRequest::new("a.b"), &EnqueueOptions::default()).await.unwrap();
}

/// The error says what to do about it, and nothing that leads astray.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_database_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    fs::write(folder.path().join("test.db"), "no database at all, ".repeat(500)).unwrap();
    let said = start_error(&url).await;
    assert!(said.contains("it is no SQLite file") && !said.contains("room"), "{said}");
}

/// Of files with secrets that everybody can read, start and doctor tell.
#[tokio::test(flavor = "multi_thread")]
async fn files_with_secrets_that_everybody_can_read_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::write(path("token"), "0123456789abcdef0123456789abcdef").unwrap();
    fs::write(path("nightshift.toml"), "admin_token_file = \"token\"\nsecrets_key = \"\"\n")
        .unwrap();
    fs::write(path("test.db"), "").unwrap();
    let said = || async {
        let mut doctor = binary();
        doctor.args(["--json", "doctor", "--database-url", "sqlite://test.db"]);
        let output = doctor.current_dir(folder.path()).output();
        String::from_utf8(soon("the end of doctor", output).await.unwrap().stdout).unwrap()
    };
    // No other user comes into the folder.
    set_mode(folder.path(), 0o700);
    for name in ["token", "nightshift.toml", "test.db"] {
        set_mode(&path(name), 0o644);
    }
    assert!(said().await.contains("no file with secrets can be read by everybody"));
    set_mode(folder.path(), 0o755);
    let told = said().await;
    for what in ["(admin_token_file)", "(the database)", "(with the setting secrets_key)"] {
        assert!(told.contains(what), "{what}: {told}");
    }
    fs::write(path("nightshift.toml"), "admin_token_file = \"token\"\n").unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    service.signal("TERM");
    let (_, log) = service.exited().await;
    assert!(log.contains("(admin_token_file) can be read by everybody"), "{log}");
    assert!(!log.contains("nightshift.toml"), "it holds no secret: {log}");
    for name in ["token", "nightshift.toml", "test.db"] {
        set_mode(&path(name), 0o640);
    }
    assert!(said().await.contains("no file with secrets can be read by everybody"));
}

/// Earlier versions made it for all to read, and a user who can read it can lock it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_others_could_read_is_made_private() {
    let builder = Builder::sqlite();
    let file: PathBuf = builder.config.database_url.strip_prefix("sqlite://").unwrap().into();
    let lock = beside(&file, ".lock");
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o644)).unwrap();
    let app = builder.start();
    assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
    app.stop().await;
}

async fn start_error(url: &str) -> String {
    let mut second = binary();
    let second = second.args(["serve", "--bind", "127.0.0.1:0", "--database-url", url]);
    let second = soon("a refusal", second.output()).await.unwrap();
    let text = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(2), "{text}");
    text
}
