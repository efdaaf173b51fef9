//! Where settings come from, and what is said of those that cannot be as they are.

use std::{fs, path::Path, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::support::{
    process::{Service, binary},
    soon,
};

/// Exit status, standard output and standard error.
async fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = binary();
    command.args(arguments).current_dir(folder);
    let output = soon("the end of a command", command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn doctor(folder: &Path, arguments: &[&str]) -> Value {
    let (_, out, err) = run(folder, &[&["doctor", "--json"], arguments].concat()).await;
    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"))
}

/// Value and source of a setting.
fn setting<'a>(report: &'a Value, name: &str) -> (&'a Value, &'a str) {
    let settings = report["settings"].as_array().unwrap();
    let setting = settings.iter().find(|setting| setting["name"] == name).unwrap();
    (&setting["value"], setting["source"].as_str().unwrap())
}

/// As the Debian package has them: the settings, and a file with passwords beside them.
#[tokio::test(flavor = "multi_thread")]
async fn commands_read_the_variables_that_systemd_gives_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let (etc, elsewhere) = (folder.path().join("etc"), folder.path().join("elsewhere"));
    fs::create_dir(&etc).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    let (file, variables) = (etc.join("nightshift.toml"), etc.join("environment"));
    let database = folder.path().join("right.db");
    fs::write(&file, "database_url = \"sqlite:///nowhere/wrong.db\"\nattempts_max = 7\n").unwrap();
    let text = format!(
        "# for systemd\nNIGHTSHIFT_DATABASE_URL=\"sqlite://{}\"\nNIGHTSHIFT_TOKEN=nst_x\n\
         NIGHTSHIFT_LOG=\nOTHER=1\nNIGHTSHIFT_HTTP_WORKERS=3\n",
        database.display()
    );
    fs::write(&variables, text).unwrap();
    let config = ["--config", file.to_str().unwrap()];
    let (code, said, error) = run(&elsewhere, &[&["migrate"], &config[..]].concat()).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(said.starts_with("ran 0001") && database.exists(), "{said}");
    let report = doctor(&elsewhere, &config).await;
    let source = format!("file {}", variables.display());
    let url = Value::from(format!("sqlite://{}", database.display()));
    assert_eq!(setting(&report, "database_url"), (&url, source.as_str()));
    assert_eq!(setting(&report, "http_workers"), (&Value::from(3), source.as_str()));
    assert_eq!(setting(&report, "attempts_max").0, &Value::from(7));
    assert_eq!(setting(&report, "log").1, "default");
    // A flag goes before the file.
    let other = format!("sqlite://{}", folder.path().join("other.db").display());
    let report = doctor(&elsewhere, &[&config[..], &["--database-url", &other]].concat()).await;
    assert_eq!(setting(&report, "database_url").1, "flag --database-url");

    fs::write(&variables, "NIGHTSHIFT_COLOUR=1\n").unwrap();
    let (code, _, error) = run(&elsewhere, &[&["migrate"], &config[..]].concat()).await;
    assert_eq!(code, Some(2));
    assert!(error.contains("there is no setting colour; it comes from: file "), "{error}");
    // A folder in its place is as unreadable as root's file is to others.
    fs::remove_file(&variables).unwrap();
    fs::create_dir(&variables).unwrap();
    for command in [&["migrate"][..], &["backup", "new.db"]] {
        let (code, _, error) = run(&elsewhere, &[command, &config].concat()).await;
        assert_eq!(code, Some(2), "{command:?}");
        assert!(error.contains("may say which database is meant"), "{error}");
    }
    let report = doctor(&elsewhere, &config).await.to_string();
    assert!(report.contains("may say which database is meant"), "{report}");
    let (code, _, error) =
        run(&elsewhere, &[&["migrate", "--database-url", &other], &config[..]].concat()).await;
    assert_eq!(code, Some(0), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_in_a_file_are_meant_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (etc, elsewhere) = (folder.path().join("etc"), folder.path().join("elsewhere"));
    fs::create_dir(&etc).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    let text = "bind = \"unix:here.sock\"\ndatabase_url = \"sqlite://data.db\"\nadmin_token_file = \"token\"\n\
                secrets_key_file = \"/etc/keys\"\nexecutor_ca = \"../ca.pem\"\n\
                [plugin_directories]\nimages = \"images\"\n";
    fs::write(etc.join("nightshift.toml"), text).unwrap();
    fs::write(etc.join("token"), "t".repeat(32)).unwrap();
    for (cwd, config) in [(&elsewhere, "../etc/nightshift.toml"), (&etc, "nightshift.toml")] {
        let report = doctor(cwd, &["--config", config]).await;
        let folder = Path::new(config).parent().unwrap();
        let place = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        for (name, value) in [
            ("database_url", Value::from(format!("sqlite://{}", place("data.db")))),
            ("bind", Value::from(format!("unix:{}", place("here.sock")))),
            ("admin_token_file", Value::from(place("token"))),
            ("secrets_key_file", Value::from("/etc/keys")),
            ("executor_ca", Value::from(place("../ca.pem"))),
            ("plugin_directories", serde_json::json!({ "images": place("images") })),
        ] {
            assert_eq!(setting(&report, name).0, &value, "{name} in {}", cwd.display());
        }
    }
    let (code, _, error) =
        run(&elsewhere, &["migrate", "--config", "../etc/nightshift.toml"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(etc.join("data.db").exists());
    // From everywhere else they are meant from where the command was started.
    let typed =
        ["migrate", "--config", "../etc/nightshift.toml", "--database-url", "sqlite://own.db"];
    assert_eq!(run(&elsewhere, &typed).await.0, Some(0));
    assert!(elsewhere.join("own.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn localhost_is_an_address_and_what_is_none_is_shown_one() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "localhost:0", &[]).await;
    assert!(service.bind().starts_with("127.0.0.1:"), "{}", service.bind());
    service.kill().await;
    for wrong in ["tasks.lan:8700", ":8700", "localhost", "127.0.0.1"] {
        let (code, _, error) = run(folder.path(), &["serve", "--bind", wrong]).await;
        assert_eq!(code, Some(2), "{wrong}");
        assert!(error.contains("such as 127.0.0.1:8700"), "{error}");
    }
    fs::write(folder.path().join("nightshift.toml"), "bind = \"tasks.lan:8700\"\n").unwrap();
    let (_, _, error) = run(folder.path(), &["serve"]).await;
    assert!(error.contains("the setting bind cannot be used: "), "{error}");
    assert!(error.contains("such as 127.0.0.1:8700"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_limit_of_open_files_that_is_too_low_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    for (limit, is_said) in [("64", true), ("512", false)] {
        // The binary's folder need not be on the path of a shell.
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -n $0 && exec \"$@\"", limit, env!("CARGO_BIN_EXE_nightshift")])
            .args(["serve", "--bind", "127.0.0.1:0", "--database-url", "sqlite://test.db"])
            .env("NIGHTSHIFT_CONNECTIONS_MAX", "100")
            .env("NIGHTSHIFT_ATTEMPTS_MAX", "50")
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = String::new();
        soon("the start, or its end", async {
            while let Some(line) = lines.next_line().await.unwrap() {
                log.push_str(&line);
                if line.contains("nightshift is ready") {
                    return;
                }
            }
        })
        .await;
        child.kill().await.unwrap();
        let said = log.contains(&format!("{limit} files may be open at once"));
        assert_eq!(said, is_said, "{log}");
    }
}
