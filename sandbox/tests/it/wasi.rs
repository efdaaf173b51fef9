//! What a plugin may reach by WASI: what was granted, and nothing else.

use std::{path::Path, sync::Arc, time::Duration};

use nightshift_guests as guests;
use nightshift_sandbox::{Directory, Ending, FaultKind, Grants, Level, Limits, Run, Sandbox};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{Heard, run, sandbox};

async fn ending(run: Run) -> Ending {
    let sandbox: Sandbox = sandbox();
    sandbox.run(&sandbox.load(&guests::wasi()).unwrap(), run).await
}

async fn number(run: Run) -> u32 {
    let ending = ending(run).await;
    let Ending::Returned(digits) = ending else { panic!("{ending:?}") };
    digits.parse().unwrap()
}

fn with(task: &str, grants: Grants) -> Run {
    Run { grants, ..run(task, "[]") }
}

#[tokio::test]
async fn without_grants_there_is_nothing() {
    assert_eq!(number(run("variables", "[]")).await, 0);
    assert_eq!(number(run("directories", "[]")).await, 0);
}

#[tokio::test]
async fn variables_are_granted_one_by_one() {
    let environment = vec![("KEY".to_owned(), "value".to_owned())];
    assert_eq!(number(with("variables", Grants { environment, ..Grants::default() })).await, 1);
}

#[tokio::test]
async fn a_directory_is_read_and_never_written() {
    const NOT_PERMITTED: u32 = 10 + 31;
    let folder = tempfile::tempdir().unwrap();
    let granted = folder.path().join("granted");
    std::fs::create_dir(&granted).unwrap();
    std::fs::write(granted.join("file"), "").unwrap();
    std::fs::write(folder.path().join("secret"), "").unwrap();
    let grants = || {
        let directory = Directory { name: "images".to_owned(), path: granted.clone() };
        Grants { directories: vec![directory], ..Grants::default() }
    };
    assert_eq!(number(with("directories", grants())).await, 1);
    assert_eq!(number(with("read", grants())).await, 0);
    assert_eq!(number(with("escape", grants())).await, NOT_PERMITTED);
    assert_eq!(number(with("write", grants())).await, NOT_PERMITTED);
    assert!(!granted.join("new").exists());
}

fn granted(folder: &Path) -> Grants {
    let directory = Directory { name: "images".to_owned(), path: folder.to_owned() };
    Grants { directories: vec![directory], ..Grants::default() }
}

#[tokio::test]
async fn a_pipe_is_not_opened_and_nobody_waits_for_it() {
    const NOT_PERMITTED: u32 = 10 + 31;
    const LOOP: u32 = 10 + 15;
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let run = || Run { time: Duration::from_secs(5), ..with("fifo", granted(folder.path())) };
    assert_eq!(number(run()).await, NOT_PERMITTED);
    std::fs::remove_file(&pipe).unwrap();
    std::os::unix::fs::symlink("/etc", &pipe).unwrap();
    assert_eq!(number(run()).await, LOOP, "links are not followed unless that is asked for");
}

#[tokio::test]
async fn a_directory_is_listed_and_its_lists_count_as_memory() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..250 {
        std::fs::write(folder.path().join(format!("file-{n}")), "").unwrap();
    }
    assert_eq!(number(with("list", granted(folder.path()))).await, 25, "tens of entries");
    let limits = Limits { memory_mib: 2 };
    let run = Run { limits, ..with("overlists", granted(folder.path())) };
    assert_eq!(number(run).await, 3, "tens of lists of 64 KiB beside a memory of 128 KiB");
}

#[tokio::test]
async fn so_many_files_are_open_at_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let ending = ending(with("many", granted(folder.path()))).await;
    let Ending::Fault(fault) = ending else { panic!("{ending:?}") };
    assert_eq!(fault.kind, FaultKind::Trap);
    assert!(fault.message.contains("resource table"), "{fault:?}");
}

#[tokio::test]
async fn a_directory_that_is_gone_is_named() {
    let directory = Directory { name: "images".to_owned(), path: "/nowhere/at/all".into() };
    let grants = Grants { directories: vec![directory], ..Grants::default() };
    let ending = ending(with("directories", grants)).await;
    let Ending::Fault(fault) = ending else { panic!("{ending:?}") };
    assert_eq!(fault.kind, FaultKind::NotStarted);
    assert!(fault.message.starts_with("the directory \"images\" cannot be opened"), "{fault:?}");
}

#[tokio::test]
async fn there_are_no_sockets() {
    const ACCESS_DENIED: u32 = 10 + 1;
    assert_eq!(number(run("network", "[]")).await, ACCESS_DENIED);
}

#[tokio::test]
async fn whoever_sleeps_past_the_deadline_is_ended() {
    let ending = ending(Run { time: Duration::from_millis(200), ..run("sleep", "[]") }).await;
    let Ending::Fault(fault) = ending else { panic!("{ending:?}") };
    assert_eq!(fault.kind, FaultKind::Timeout);
}

#[tokio::test]
async fn a_panic_shows_what_was_said_on_standard_error() {
    let heard = Arc::new(Heard::default());
    let ending = ending(Run { journal: heard.clone(), ..run("panic", "[]") }).await;
    let Ending::Fault(fault) = ending else { panic!("{ending:?}") };
    assert_eq!(fault.kind, FaultKind::Trap);
    let said = "thread 'main' panicked at lib.rs:7";
    let traceback = fault.traceback.unwrap();
    assert!(traceback.starts_with(said) && traceback.contains("wasm backtrace"), "{traceback}");
    assert_eq!(*heard.lines.lock().unwrap(), [(Level::Warning, said.to_owned())]);
}
