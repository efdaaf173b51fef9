//! The command line as a whole: its words, what it says of several things, and how it looks.

use std::process::Stdio;

use nightshift_client::{EnqueueOptions, types::TaskRequest};
use serde_json::Value;
use tokio::process::Command;
use uuid::Uuid;

use crate::support::{
    database::execute,
    process::{Service, binary},
    soon,
};

async fn enqueue(service: &Service, path: &str) -> String {
    let options = EnqueueOptions::default();
    let made = service.client.create_task(&TaskRequest::new(path), &options).await;
    made.unwrap().task.id.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tasks_are_each_told_their_fate() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let ids = [enqueue(&service, "a").await, Uuid::nil().to_string(), enqueue(&service, "b").await];
    let run = async |command: &[&str]| {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let output = service.run(&[command, &ids[..]].concat()).await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    for (command, fate) in [("cancel", "CANCELLED"), ("retry", "READY"), ("cancel", "CANCELLED")] {
        let (code, out, err) = run(&[command]).await;
        assert_eq!(code, Some(2), "one of them is not there");
        assert_eq!(out, format!("{} {fate}\n{} {fate}\n", ids[0], ids[2]));
        assert!(err.starts_with(&format!("error: {} ", ids[1])), "{err}");
        assert!(err.contains("task_not_found") && err.lines().count() == 1, "{err}");
    }
    let (code, out, err) = run(&["--json", "delete"]).await;
    assert_eq!((code, err), (Some(2), String::new()));
    let said: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named: Vec<&str> = said.iter().map(|fate| fate["id"].as_str().unwrap()).collect();
    assert_eq!(named, ids);
    assert_eq!((&said[0]["deleted"], &said[2]["deleted"]), (&true.into(), &true.into()));
    assert!(said[1]["error"].as_str().unwrap().contains("task_not_found"), "{out}");
    assert_eq!(service.run(&["delete"]).await.status.code(), Some(2), "there is nothing to delete");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idea_has_one_word_and_others_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    for kind in ["executor", "plugin", "token"] {
        let help = String::from_utf8(service.run(&[kind, "--help"]).await.stdout).unwrap();
        assert!(help.contains("  delete "), "{help}");
        assert!(!help.contains("  remove ") && !help.contains("  revoke "), "{help}");
        for word in ["delete", "remove", "revoke"] {
            let output = service.run(&[kind, word, "nobody"]).await;
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains(&format!("{kind}_not_found")), "{kind} {word}: {said}");
        }
    }
    for option in ["--queue", "--queue-name"] {
        let made = service.run(&["--json", "enqueue", "a.b", option, "night"]).await.stdout;
        let made: Value = serde_json::from_slice(&made).unwrap();
        assert_eq!(made["queue_name"], "night", "{option}");
        let listed = service.run(&["list", option, "night", "--limit", "1"]).await;
        assert!(String::from_utf8(listed.stdout).unwrap().contains("a.b"), "{option}");
    }
}

/// Colours go to a terminal only, and not if the user forbids them.
#[tokio::test(flavor = "multi_thread")]
async fn no_color_is_obeyed() {
    const IN_A_TERMINAL: &str = "import pty, sys; pty.spawn(sys.argv[1:])";
    let folder = tempfile::tempdir().unwrap();
    let shown = async |arguments: &[&str], no_color: &str| {
        let mut command = Command::new("python3");
        command
            .args(["-c", IN_A_TERMINAL, env!("CARGO_BIN_EXE_nightshift")])
            .args(arguments)
            .envs([("TERM", "xterm"), ("NO_COLOR", no_color), ("XDG_CACHE_HOME", "cache")])
            .current_dir(folder.path())
            .stdin(Stdio::null());
        let output = soon("the end of a command", command.output()).await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // The one prints a table, the other writes a line to the log before it is refused.
    let refused = ["serve", "--bind", "0.0.0.0:1", "--database-url", "sqlite://test.db"];
    for (arguments, word) in [(&["doctor"][..], "settings"), (&refused, "public_url is not set")] {
        let coloured = shown(arguments, "").await;
        assert!(coloured.contains('\u{1b}') && coloured.contains(word), "{coloured}");
        let plain = shown(arguments, "1").await;
        assert!(!plain.contains('\u{1b}') && plain.contains(word), "{plain:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_is_blamed_only_where_it_may_be_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let newer = format!("sqlite://{}", place("newer.db"));
    let run = async |arguments: &[&str]| {
        let output = soon("the end of a command", binary().args(arguments).output()).await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let migrate = ["migrate", "--database-url", &newer];
    assert_eq!(run(&migrate).await.0, Some(0));
    execute(&newer, "INSERT INTO __diesel_schema_migrations (version) VALUES ('99999999')");
    std::fs::write(place("text.db"), "what is no database, and long enough for its head".repeat(9))
        .unwrap();
    let text = format!("sqlite://{}", place("text.db"));
    let backup = ["backup", "--database-url", &text, &place("backup.db")];
    for (arguments, why) in [
        (&migrate[..], "the database has migration 99999999, which this nightshift does not know"),
        (&backup, "it is no SQLite file"),
    ] {
        let (code, said) = run(arguments).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(!said.contains("disk") && !said.contains("room"), "{said}");
    }
}

/// A command's own options come first, and those of a service are offered where there is one.
#[tokio::test(flavor = "multi_thread")]
async fn help_offers_what_the_command_uses() {
    let run = async |arguments: &[&str]| {
        let output = binary().args(arguments).output().await.unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (_, help) = run(&["list", "--help"]).await;
    let (own, global) = help.split_once("Global options:").unwrap();
    assert!(own.contains("--cursor") && !own.contains("--server"), "{help}");
    assert!(["--server", "--token", "--json"].iter().all(|one| global.contains(one)), "{help}");
    for command in [&["migrate"][..], &["plugin", "run"], &["executor", "check"]] {
        let (_, help) = run(&[command, &["--help"]].concat()).await;
        assert!(!help.contains("--server") && !help.contains("--token"), "{help}");
    }
    let (code, refusal) = run(&["migrate", "--server", "http://127.0.0.1:1"]).await;
    assert_eq!(code, Some(2));
    assert!(refusal.contains("`nightshift migrate` does not speak to a service"), "{refusal}");
}
