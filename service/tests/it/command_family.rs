//! `nightshift worker`: what its commands start, inherit and outlast.

use std::{collections::BTreeSet, fs};

use nightshift_client::types::{ExecutorRequest, TaskRequest, TaskStatus};
use tokio::process::Command;

use crate::support::{
    commands::{Fixture, is_alive, once},
    process::{Service, binary},
    until,
};

/// Waits for the end of a process that a script has noted in a file.
async fn dies(fixture: &Fixture, file: &str) {
    let pid = fixture.file(file).await;
    until(file, || async { (!is_alive(&pid)).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_leaves_its_command_s_group_ends_with_its_task() {
    // Each has a session of its own, and no parent any more.
    let script = r#"
        case $NIGHTSHIFT_TASK_PATH in
            stays) (setsid sh -c 'echo $$ > stays; exec sleep 300' >/dev/null 2>&1 &)
                until [ -e go ]; do sleep 0.05; done ;;
            leaves) (setsid sh -c 'echo $$ > leaves; exec sleep 300' >/dev/null 2>&1 &)
                until [ -e leaves ]; do sleep 0.05; done ;;
            holds) (setsid sh -c 'echo $$ > holds; exec sleep 300' &)
                until [ -e holds ]; do sleep 0.05; done ;;
            forgets) (env -i setsid sh -c 'echo $$ > forgets; exec sleep 300' >/dev/null 2>&1 &)
                until [ -e forgets ]; do sleep 0.05; done ;;
            hangs) (setsid sh -c 'trap "" TERM; echo $$ > hangs; while :; do sleep 0.1; done' &)
                sleep 300 ;;
        esac
        echo '"done"'
    "#;
    let fixture = Fixture::start(script, |_| {}).await;
    let worker = fixture.worker(&["--concurrency", "2", "--kill-after", "1"]).await;
    let stays = fixture.enqueue(once("stays")).await;
    let other = fixture.file("stays").await;
    for path in ["leaves", "holds"] {
        let task = fixture.run(once(path)).await;
        assert_eq!(task.return_value.unwrap().as_str(), r#""done""#, "{path}");
        dies(&fixture, path).await;
    }
    let id = fixture.enqueue(TaskRequest::new("hangs")).await;
    fixture.file("hangs").await;
    fixture.client().cancel_task(id, false).await.unwrap();
    dies(&fixture, "hangs").await;
    assert_eq!(fixture.end(id).await.status, TaskStatus::Cancelled);
    // Without its mark, it is of one of those that ran when it began.
    fixture.run(once("forgets")).await;
    assert!(is_alive(&other), "another task's, which runs");
    fs::write(fixture.folder.path().join("go"), "").unwrap();
    fixture.end(stays).await;
    dies(&fixture, "stays").await;
    dies(&fixture, "forgets").await;
    worker.signal("TERM");
    assert_eq!(worker.exited().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_s_own_script_has_started_is_left_alone() {
    let script = "(setsid sh -c 'echo $$ > left; exec sleep 300' >/dev/null 2>&1 &)
        until [ -e left ]; do sleep 0.05; done";
    let fixture = Fixture::start(script, |_| {}).await;
    let mut shell = Command::new("sh");
    let become_worker = r#"sleep 300 >/dev/null 2>&1 & echo $! > helper; exec "$0" "$@""#;
    shell.kill_on_drop(true).args(["-c", become_worker]).arg(binary().as_std().get_program());
    let worker = fixture.worker_by(shell, &[]).await;
    fixture.run(once("a")).await;
    dies(&fixture, "left").await;
    worker.signal("TERM");
    assert_eq!(worker.exited().await.0, Some(0));
    let helper = fixture.file("helper").await;
    assert!(is_alive(&helper));
    std::process::Command::new("kill").arg(helper.trim()).status().unwrap();
}

/// The children of a process that wait to be buried.
fn zombies(parent: u32) -> BTreeSet<String> {
    let mut zombies = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // After its name, which may hold anything.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        if rest.starts_with(&format!("Z {parent} ")) {
            zombies.insert(stat);
        }
    }
    zombies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_buries_children_that_it_has_inherited() {
    // The inner shell loses its parent at once; it ends when it has seen that.
    let script = r#"
        (sh -c 'echo $$ > orphan; until [ "$(cut -d " " -f 4 /proc/$$/stat)" = '$PPID' ]; do
            sleep 0.05; done; echo > inherited' >/dev/null 2>&1 &)
        until [ -e go ]; do sleep 0.05; done
    "#;
    let fixture = Fixture::start(script, |_| {}).await;
    let worker = fixture.worker(&[]).await;
    let id = fixture.enqueue(once("a")).await;
    fixture.file("inherited").await;
    dies(&fixture, "orphan").await;
    let process = worker.child.id().unwrap();
    until("a worker without zombies", || async { zombies(process).is_empty().then_some(()) }).await;
    // Its own child is waited for by whoever started it.
    fs::write(fixture.folder.path().join("go"), "").unwrap();
    assert_eq!(fixture.end(id).await.status, TaskStatus::Successful);
    until("a worker without zombies", || async { zombies(process).is_empty().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_do_not_inherit_the_worker_s_secrets() {
    let fixture = Fixture::start("env > variables; echo >> variables", |_| {}).await;
    let mut secretive = binary();
    for name in ["TOKEN", "ADMIN_TOKEN", "SECRETS_KEY", "SECRET", "DATABASE_URL"] {
        secretive.env(format!("NIGHTSHIFT_{name}"), "pineapple");
    }
    secretive.env("NIGHTSHIFT_SERVER", &fixture.service.server).env("FRUIT", "apple");
    let _worker = fixture.worker_by(secretive, &[]).await;
    fixture.run(once("a.b")).await;
    let variables = fixture.file("variables").await;
    assert!(!variables.contains("pineapple"), "{variables}");
    for kept in ["FRUIT=apple", "NIGHTSHIFT_SERVER=http", "NIGHTSHIFT_TASK_PATH=a.b"] {
        assert!(variables.contains(kept), "{kept}: {variables}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_under_nohup_outlives_its_terminal() {
    let script = "echo > begun; until [ -e go ]; do sleep 0.05; done; echo '\"done\"'";
    let fixture = Fixture::start(script, |_| {}).await;
    let mut nohup = Command::new("nohup");
    nohup.kill_on_drop(true).arg(binary().as_std().get_program());
    let worker = fixture.worker_by(nohup, &[]).await;
    let id = fixture.enqueue(TaskRequest::new("a")).await;
    fixture.file("begun").await;
    worker.signal("HUP");
    // Were that the first signal, this would be the second, and stop the command.
    worker.signal("TERM");
    fs::write(fixture.folder.path().join("go"), "").unwrap();
    assert_eq!(worker.exited().await.0, Some(0));
    let task = fixture.end(id).await;
    assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_goes_on_while_the_service_is_away_but_not_beyond_its_time() {
    let script = r#"
        echo $$ > $NIGHTSHIFT_TASK_PATH
        while [ ! -e $NIGHTSHIFT_TASK_PATH.go ]; do
            sleep 0.1; n=$((n + 1)); echo $n > $NIGHTSHIFT_TASK_PATH.$n
        done
        echo '"done"'
    "#;
    let lease = |request: &mut ExecutorRequest| request.lease_seconds = Some(3);
    let fixture = Fixture::start(script, lease).await;
    let _worker = fixture.worker(&["--concurrency", "2"]).await;
    let long = fixture.enqueue(once("long")).await;
    let timed = TaskRequest { timeout_seconds: Some(8.0), ..once("timed") };
    let timed = fixture.enqueue(timed).await;
    for path in ["long", "timed"] {
        fixture.file(path).await;
    }
    let (folder, bind) = (fixture.folder.path().to_owned(), fixture.service.bind());
    let Fixture { folder: kept, service } = fixture;
    service.kill().await;
    // At least six seconds later, of which the leases last three.
    let path = folder.join("long.60");
    until("the command going on", || async { path.exists().then_some(()) }).await;
    let pid = fs::read_to_string(folder.join("timed")).unwrap();
    until("the end of the attempt's time", || async { (!is_alive(&pid)).then_some(()) }).await;
    let pid = fs::read_to_string(folder.join("long")).unwrap();
    assert!(is_alive(&pid), "its time is not over");
    let service = Service::start(&folder, &bind, &[]).await;
    let fixture = Fixture { folder: kept, service };
    assert_eq!(fixture.end(timed).await.status, TaskStatus::Failed);
    fs::write(folder.join("long.go"), "").unwrap();
    let task = fixture.end(long).await;
    assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1), "{task:?}");
}
