//! `nightshift doctor`, and the one sentence about a setting that is wrong.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Output};

use diesel::{Connection, PgConnection, connection::SimpleConnection};
use nightshift::config::Hidden;
use nightshift_client::types::ExecutorRequest;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    app::{Builder, SECRET, TestApp},
    database::execute,
    executor::{Reply, TestExecutor},
    on_both_engines,
    process::binary,
    soon,
};

/// A command of the binary in a folder of its own, with variables.
async fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = binary();
    command.args(arguments).current_dir(folder).envs(variables.iter().copied());
    soon("the end of a command", command.output()).await.unwrap()
}

/// What the doctor says of a database, and its exit status.
struct Said {
    code: Option<i32>,
    report: Value,
}

impl Said {
    async fn of(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let arguments = [&["doctor", "--json"], arguments].concat();
        let output = run(folder, &arguments, variables).await;
        let text = String::from_utf8(output.stdout).unwrap();
        let report = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        Self { code: output.status.code(), report }
    }

    async fn of_database(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::of(folder.path(), &["--database-url", url], &[]).await
    }

    async fn of_app(app: &TestApp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (url, server) = (app.database_url(), &app.server);
        Self::of(folder.path(), &["--database-url", &url, "--server", server], &[]).await
    }

    /// Status and message of a check.
    fn check(&self, name: &str) -> (&str, &str) {
        let checks = self.report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name);
        let check = check.unwrap_or_else(|| panic!("no {name} in {:#}", self.report));
        (check["status"].as_str().unwrap(), check["message"].as_str().unwrap())
    }

    /// Value and source of a setting.
    fn setting(&self, name: &str) -> (&Value, &str) {
        let settings = self.report["settings"].as_array().unwrap();
        let setting = settings.iter().find(|setting| setting["name"] == name).unwrap();
        (&setting["value"], setting["source"].as_str().unwrap())
    }
}

on_both_engines! {
    async fn all_is_well_beside_a_running_service(builder: App) {
        let app = builder.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register(&executor).await;
        let said = Said::of_app(&app).await;
        assert_eq!(said.code, Some(0), "{:#}", said.report);
        assert_eq!(said.report["ok"], true);
        for name in ["settings", "database", "schema", "writing", "service", "executor exec"] {
            assert_eq!(said.check(name).0, "ok", "{name} {:#}", said.report);
        }
        let port = executor.port();
        let expected = format!("http://127.0.0.1:{port} accepts connections");
        assert_eq!(said.check("executor exec").1, expected);
        assert!(executor.calls().is_empty(), "no task is sent");
        if app.database_url().starts_with("postgres") {
            assert_eq!(said.check("clock").0, "ok", "{:#}", said.report);
        } else {
            assert_eq!(said.check("disk of the database").0, "ok", "{:#}", said.report);
        }
    }

    async fn a_new_database_is_left_as_it_is(builder: App) {
        let url = builder.config.database_url.clone();
        for _ in 0..2 {
            let said = Said::of_database(&url).await;
            assert_eq!(said.code, Some(0), "{:#}", said.report);
            if let Some(file) = url.strip_prefix("sqlite://") {
                let expected = ("warn", "the file is not there yet; serve makes it");
                assert_eq!(said.check("database"), expected);
                assert!(!Path::new(file).exists());
            } else {
                let (status, message) = said.check("schema");
                assert_eq!(status, "warn");
                assert!(message.ends_with("serve and migrate do that"), "{message}");
            }
        }
        if url.starts_with("postgres") {
            // Fails if the table is there.
            execute(&url, "CREATE TABLE __diesel_schema_migrations (nothing TEXT)");
        }
    }

    async fn a_newer_schema_fails(builder: App) {
        let app = builder.start();
        let url = app.database_url();
        let _database = app.stop().await;
        execute(&url, "INSERT INTO __diesel_schema_migrations (version) VALUES ('99999999')");
        let said = Said::of_database(&url).await;
        assert_eq!(said.code, Some(1));
        let expected = "the database has migration 99999999, which this nightshift does not know: \
                        it is older than the database";
        assert_eq!(said.check("schema"), ("fail", expected));
    }

    async fn a_schema_that_is_behind_is_said(builder: App) {
        let app = builder.start();
        let url = app.database_url();
        let _database = app.stop().await;
        let newest = "DELETE FROM __diesel_schema_migrations WHERE version = \
                      (SELECT max(version) FROM __diesel_schema_migrations)";
        execute(&url, newest);
        let said = Said::of_database(&url).await;
        let expected = ("warn", "1 migration has to run; serve and migrate do that");
        assert_eq!(said.check("schema"), expected);
        assert_eq!(said.code, Some(0));
    }

    async fn an_executor_that_cannot_be_reached_fails(builder: App) {
        let app = builder.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for (name, url) in [
            ("closed", format!("http://{closed}/tasks?key=secret")),
            ("unknown", "http://nobody.invalid/tasks".to_owned()),
        ] {
            let path = format!("{name}.*");
            app.register_as(name, &executor, |request| {
                request.url = Some(url);
                request.task_paths = vec![path];
            })
            .await;
        }
        let said = Said::of_app(&app).await;
        assert_eq!(said.code, Some(1));
        for (name, place) in [
            ("executor closed", format!("http://{closed} cannot be reached: ")),
            ("executor unknown", "http://nobody.invalid cannot be reached: ".to_owned()),
        ] {
            let (status, message) = said.check(name);
            assert_eq!(status, "fail", "{message}");
            assert!(message.starts_with(&place), "{message}");
        }
    }

    async fn deliveries_that_are_held_back_are_said(builder: App) {
        let (builder, _clock) = builder.with_manual_clock();
        let app = builder.start();
        let executor = TestExecutor::start(|_| Reply::status(503)).await;
        app.register(&executor).await;
        app.enqueue("a").await;
        crate::support::until("a delivery that was refused", || async {
            app.client.get_executor("exec").await.unwrap().hold
        })
        .await;
        let said = Said::of_app(&app).await;
        let (status, message) = said.check("executor exec");
        assert_eq!(status, "warn");
        assert!(message.contains("accepts connections, but deliveries are held back: "), "{message}");
        assert_eq!(said.code, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_and_an_executor_that_settings_refuse_fail() {
    let mut builder = Builder::sqlite();
    let right = "right-".repeat(6);
    builder.config.admin_token = Some(Hidden::new(right.as_str()));
    let executor = TestExecutor::start(|_| Reply::ok("1")).await;
    let app = builder.start();
    let wanted = ExecutorRequest {
        url: Some(executor.url()),
        secret: Some(SECRET.to_owned()),
        task_paths: vec!["*".to_owned()],
        ..ExecutorRequest::default()
    };
    let client = app.client.clone().with_token(&right).unwrap();
    client.put_executor("exec", &wanted).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (url, server) = (app.database_url(), &app.server);
    let arguments = ["--database-url", &url, "--server", server];
    let wrong = "wrong-".repeat(6);
    let variables = [
        ("NIGHTSHIFT_TOKEN", wrong.as_str()),
        ("NIGHTSHIFT_EXECUTOR_HOSTS_ALLOWED", "10.0.0.0/8"),
        ("NIGHTSHIFT_ADMIN_TOKEN", right.as_str()),
    ];
    let said = Said::of(folder.path(), &arguments, &variables).await;
    let refused = format!("{server} refuses the token: the token is unknown, expired or revoked");
    assert_eq!(said.check("service"), ("fail", refused.as_str()));
    let (status, message) = said.check("executor exec");
    assert_eq!(status, "fail");
    assert!(message.ends_with("127.0.0.1 is not in executor_hosts_allowed"), "{message}");
    let hidden = Value::from("(hidden)");
    assert_eq!(said.setting("admin_token"), (&hidden, "environment NIGHTSHIFT_ADMIN_TOKEN"));
    let text = said.report.to_string();
    assert!(!text.contains(&right) && !text.contains(&wrong), "{text}");
    let said = Said::of(folder.path(), &arguments, &[("NIGHTSHIFT_TOKEN", &right)]).await;
    assert_eq!(said.code, Some(0), "{:#}", said.report);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_would_refuse_fails() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    for (name, value, check, message) in [
        ("NIGHTSHIFT_LOG", "a=b=c", "settings", "log is not a filter"),
        ("NIGHTSHIFT_EXECUTOR_CA", "/nowhere", "settings", "executor_ca /nowhere cannot be used"),
        ("NIGHTSHIFT_SECRETS_KEY", "abc", "settings", "secrets_key cannot be used"),
        ("NIGHTSHIFT_SECRETS_KEY_FILE", "/nowhere", "settings", "secrets_key_file /nowhere cannot"),
        (
            "NIGHTSHIFT_DATABASE_URL",
            "postgres://h/db?application_name=tom",
            "settings",
            "database_url: application_name has to begin with nightshift",
        ),
        ("NIGHTSHIFT_BIND", "0.0.0.0:1", "tokens", "bind is 0.0.0.0:1, but there is no token"),
        (
            "NIGHTSHIFT_PLUGIN_CACHE",
            cache.to_str().unwrap(),
            "disk of plugin_cache",
            "others can write into",
        ),
    ] {
        let said = Said::of(folder.path(), &[], &[(name, value)]).await;
        assert_eq!(said.code, Some(1), "{name}");
        let (status, text) = said.check(check);
        assert_eq!(status, "fail", "{name}");
        assert!(text.starts_with(message), "{name}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_executors_cannot_call_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let token = "t".repeat(32);
    let bind = [("NIGHTSHIFT_BIND", "0.0.0.0:1"), ("NIGHTSHIFT_ADMIN_TOKEN", &token)];
    let said = Said::of(folder.path(), &[], &bind).await;
    let (status, message) = said.check("public_url");
    assert_eq!(status, "warn");
    let expected = "bind is 0.0.0.0:1, but public_url is not set: ";
    assert!(message.starts_with(expected) && message.contains("http://localhost:1,"), "{message}");
    let said = Said::of(folder.path(), &["--public-url", "http://tasks.lan"], &bind).await;
    assert!(!said.report["checks"].to_string().contains("public_url"), "{:#}", said.report);
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_kubernetes_and_empty_ones_are_no_settings() {
    let folder = tempfile::tempdir().unwrap();
    let said = Said::of(
        folder.path(),
        &[],
        &[
            ("NIGHTSHIFT_SERVICE_HOST", "10.96.7.1"),
            ("NIGHTSHIFT_SERVICE_PORT", "8700"),
            ("NIGHTSHIFT_SERVICE_PORT_HTTP", "8700"),
            ("NIGHTSHIFT_PORT", "tcp://10.96.7.1:8700"),
            ("NIGHTSHIFT_PORT_8700_TCP", "tcp://10.96.7.1:8700"),
            ("NIGHTSHIFT_PORT_8700_TCP_ADDR", "10.96.7.1"),
            ("NIGHTSHIFT_ATTEMPTS_MAX", ""),
        ],
    )
    .await;
    assert_eq!(said.setting("attempts_max"), (&Value::from(1_000), "default"));
    let said = Said::of(folder.path(), &[], &[("NIGHTSHIFT_PORT", "8700")]).await;
    let expected = ("fail", "there is no setting port; it comes from: environment NIGHTSHIFT_PORT");
    assert_eq!(said.check("settings"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_folders_above_are_nobody_s() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("nightshift.toml"), "retention_seconds = 5").unwrap();
    let below = folder.path().join("below");
    fs::create_dir(&below).unwrap();
    let said = Said::of(&below, &[], &[]).await;
    assert_eq!(said.setting("retention_seconds"), (&Value::from(604_800), "default"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_the_certificate_and_the_service_behind_it_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (place("tls.crt"), place("tls.key"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut builder = Builder::sqlite();
    builder.config.tls_certificate = Some(certificate.clone().into());
    builder.config.tls_key = Some(key.clone().into());
    let app = builder.start();
    let server = app.server.replace("127.0.0.1", "localhost");
    assert!(server.starts_with("https://localhost:"), "{server}");
    let url = app.database_url();
    let arguments = ["--database-url", &url, "--public-url", &server];
    let mut variables = vec![
        ("NIGHTSHIFT_TLS_CERTIFICATE", certificate.as_str()),
        ("NIGHTSHIFT_TLS_KEY", key.as_str()),
    ];
    let untrusting = Said::of(folder.path(), &arguments, &variables).await;
    assert_eq!(untrusting.check("service").0, "warn", "nobody vouches for it");
    variables.push(("SSL_CERT_FILE", &certificate));
    let said = Said::of(folder.path(), &arguments, &variables).await;
    assert_eq!(said.code, Some(0), "{:#}", said.report);
    assert_eq!(said.check("service"), ("ok", format!("{server} is ready").as_str()));
    let (status, message) = said.check("certificate");
    assert_eq!(status, "ok");
    let usable = format!("{certificate} and its key can be used until 4096-01-01T");
    assert!(message.starts_with(&usable), "{message}");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&key, other.signing_key.serialize_pem()).unwrap();
    let said = Said::of(folder.path(), &arguments, &variables).await;
    assert_eq!(said.code, Some(1));
    let (status, message) = said.check("certificate");
    assert_eq!(status, "fail");
    assert!(message.starts_with("tls_key is not the key of tls_certificate"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_transaction_open_on_postgres_is_named() {
    let app = Builder::postgres().start();
    let url = app.database_url();
    let mut session = PgConnection::establish(&url).unwrap();
    session.batch_execute("SET application_name = 'forgotten'").unwrap();
    session
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tasks")
        .unwrap();
    let said = Said::of_database(&url).await;
    let (status, message) = said.check("open transactions");
    assert_eq!(status, "ok");
    assert!(message.contains(" of nightshift (forgotten) for "), "{message}");
    let metrics = app.send(app.request("GET", "/metrics")).await.text;
    let name = "nightshift_database_oldest_transaction_seconds ";
    let shown = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    assert!(shown.parse::<f64>().unwrap() > 0.0, "{shown}");
    session.batch_execute("COMMIT").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_fails_and_its_password_is_hidden() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://u:hunter2@{closed}/db");
    let folder = tempfile::tempdir().unwrap();
    let said = Said::of(folder.path(), &[], &[("NIGHTSHIFT_DATABASE_URL", &url)]).await;
    assert_eq!(said.code, Some(1));
    let (status, message) = said.check("database");
    assert_eq!(status, "fail");
    assert!(message.starts_with("cannot connect to PostgreSQL: "), "{message}");
    let shown = Value::from(format!("postgres://u:(hidden)@{closed}/db"));
    assert_eq!(said.setting("database_url"), (&shown, "environment NIGHTSHIFT_DATABASE_URL"));
    assert!(!said.report.to_string().contains("hunter2"));
    let missing = Said::of_database("sqlite:///nowhere/at/all.db").await;
    assert_eq!(missing.code, Some(1));
    let expected = ("fail", "the folder of /nowhere/at/all.db is not there");
    assert_eq!(missing.check("disk of the database"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_setting_is_shown_with_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nightshift.toml");
    fs::write(&file, "attempts_max = 7\ndeliveries_max = 8\nretention_seconds = 9\n").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let arguments = ["--shutdown-grace-seconds", "3", "--bind", &closed.to_string()];
    let said = Said::of(folder.path(), &arguments, &[("NIGHTSHIFT_DELIVERIES_MAX", "10")]).await;
    let from_file = format!("file {}", file.canonicalize().unwrap().display());
    for (name, value, source) in [
        ("attempts_max", Value::from(7), from_file.as_str()),
        ("retention_seconds", Value::from(9), from_file.as_str()),
        ("deliveries_max", Value::from(10), "environment NIGHTSHIFT_DELIVERIES_MAX"),
        ("shutdown_grace_seconds", Value::from(3), "flag --shutdown-grace-seconds"),
        ("http_workers", Value::from(2), "default"),
        ("otlp_endpoint", Value::Null, "default"),
    ] {
        assert_eq!(said.setting(name), (&value, source), "{name}");
    }
    let (status, message) = said.check("service");
    assert_eq!(status, "warn");
    assert!(message.starts_with(&format!("nothing answers at http://{closed}: ")), "{message}");
    assert_eq!(said.code, Some(0));
    let text = run(folder.path(), &["doctor"], &[]).await;
    let text = String::from_utf8(text.stdout).unwrap();
    let line = |start: &str| {
        text.lines().find(|line| line.trim_start().starts_with(start)).unwrap().to_owned()
    };
    assert!(line("attempts_max ").contains(" 7 "), "{text}");
    assert!(line("ok").contains("settings"), "{text}");
}

/// `nightshift.toml` with this text.
fn folder_with(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("nightshift.toml"), text).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_setting_gets_one_sentence_with_its_name_and_source() {
    let unknown = folder_with("colour = 1\n");
    let mistyped = folder_with("attempts_max = \"many\"\n");
    let broken = folder_with("admin_token = = \"pineapple\"\n");
    let none = tempfile::tempdir().unwrap();
    let file = |folder: &TempDir| {
        folder.path().canonicalize().unwrap().join("nightshift.toml").display().to_string()
    };
    let in_environment = [("NIGHTSHIFT_ATTEMPTS_MAX", "-1")];
    for (folder, variables, words) in [
        (
            &unknown,
            &[][..],
            vec!["there is no setting colour; it comes from: file ".to_owned() + &file(&unknown)],
        ),
        (
            &mistyped,
            &[],
            vec![
                "the setting attempts_max cannot be used: ".to_owned(),
                "it comes from: file ".to_owned() + &file(&mistyped),
            ],
        ),
        (&broken, &[], vec!["the settings cannot be read: ".to_owned(), file(&broken)]),
        (
            &none,
            &[("NIGHTSHIFT_COLOUR", "1")],
            vec![
                "there is no setting colour; it comes from: environment NIGHTSHIFT_COLOUR"
                    .to_owned(),
            ],
        ),
        (
            &none,
            &in_environment,
            vec![
                "the setting attempts_max cannot be used: ".to_owned(),
                "it comes from: environment NIGHTSHIFT_ATTEMPTS_MAX".to_owned(),
            ],
        ),
        (
            &none,
            &[("NIGHTSHIFT_OTLP_ENDPOINT", "collector")],
            vec!["otlp_endpoint must be an address like http://collector:4318".to_owned()],
        ),
    ] {
        let served = run(folder.path(), &["serve"], variables).await;
        assert_eq!(served.status.code(), Some(2));
        let text = String::from_utf8(served.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let said = Said::of(folder.path(), &[], variables).await;
        assert_eq!(said.code, Some(1));
        let (status, message) = said.check("settings");
        assert_eq!((status, format!("error: {message}\n")), ("fail", text));
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert!(!message.contains("pineapple"), "{message}");
    }
}
