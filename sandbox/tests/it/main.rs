//! Each hostile guest ends as its own clear error.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod http;
mod wasi;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use nightshift_guests::{self as guests, changed};
use nightshift_sandbox::{
    About, Ending, Fault, FaultKind, Grants, Journal, Level, Limits, Plugin, Raised, Reach, Run,
    Sandbox, Settings, Unfit, compile,
};

const LONG: Duration = Duration::from_mins(1);

fn sandbox() -> Sandbox {
    Sandbox::new(&Settings { cache: None, threads: 2, runs_max: 4, memory_mib: 1_024 }).unwrap()
}

fn guest(sandbox: &Sandbox) -> Plugin {
    sandbox.load(&guests::plugin(guests::GUEST)).unwrap()
}

fn run(task: &str, args: &str) -> Run {
    Run {
        executor: "guests".to_owned(),
        task_path: format!("guest.{task}"),
        args: args.to_owned(),
        kwargs: "{}".to_owned(),
        about: About::default(),
        time: LONG,
        grants: Grants::default(),
        limits: Limits { memory_mib: 128 },
        journal: Arc::new(Heard::default()),
    }
}

#[derive(Default)]
struct Heard {
    lines: Mutex<Vec<(Level, String)>>,
    progress: Mutex<Vec<(Option<f64>, Option<String>)>>,
}

impl Journal for Heard {
    fn log(&self, level: Level, line: String) {
        self.lines.lock().unwrap().push((level, line));
    }
    fn progress(&self, fraction: Option<f64>, message: Option<String>) {
        self.progress.lock().unwrap().push((fraction, message));
    }
}

async fn fault(run: Run) -> Fault {
    let sandbox = sandbox();
    let ending = sandbox.run(&guest(&sandbox), run).await;
    let Ending::Fault(fault) = ending else { panic!("{ending:?}") };
    fault
}

async fn returned(run: Run) -> String {
    let sandbox = sandbox();
    let ending = sandbox.run(&guest(&sandbox), run).await;
    let Ending::Returned(value) = ending else { panic!("{ending:?}") };
    value
}

#[tokio::test]
async fn a_task_gets_its_arguments_and_returns_a_value() {
    assert_eq!(returned(run("echo", r#"[1, "é"]"#)).await, r#"[1, "é"]"#);
}

#[tokio::test]
async fn each_run_has_an_instance_of_its_own() {
    let sandbox = sandbox();
    let plugin = guest(&sandbox);
    for _ in 0..3 {
        assert!(
            matches!(sandbox.run(&plugin, run("again", "[]")).await, Ending::Returned(n) if n == "1")
        );
    }
}

#[tokio::test]
async fn tasks_are_described() {
    let sandbox = sandbox();
    let tasks = sandbox.describe(&guest(&sandbox)).await.unwrap();
    let paths: Vec<&str> = tasks.iter().map(|task| task.path.as_str()).collect();
    assert_eq!(paths, ["guest.echo", "guest.trap"]);
    assert_eq!(tasks[0].summary, "Does what its name says.");
    assert_eq!(tasks[0].timeout, Some(Duration::from_secs(90)));
    assert_eq!(tasks[0].max_attempts, Some(2));
    assert_eq!(tasks[0].description, None);
}

#[tokio::test]
async fn an_error_of_the_plugin_is_passed_on() {
    let sandbox = sandbox();
    for (task, retryable) in [("xerror", true), ("yerror", false)] {
        let Ending::Raised(raised) = sandbox.run(&guest(&sandbox), run(task, "[]")).await else {
            panic!("no error")
        };
        let expected = Raised {
            class: "GuestError".to_owned(),
            message: "no luck today".to_owned(),
            traceback: Some("line 7 of guest".to_owned()),
            retryable,
        };
        assert_eq!(raised, expected);
    }
}

#[tokio::test]
async fn b11_each_trouble_has_its_kind() {
    for (task, kind, words) in [
        ("trap", FaultKind::Trap, "gave up"),
        ("wild", FaultKind::Trap, "out of bounds"),
        ("recurse", FaultKind::StackOverflow, "recursed too deeply"),
        ("memory", FaultKind::OutOfMemory, "more than its 128 MiB"),
        ("huge", FaultKind::TooLarge, "more than 16 MiB at once"),
    ] {
        let fault = fault(run(task, "[]")).await;
        assert_eq!(fault.kind, kind, "{task}: {fault:?}");
        assert!(fault.message.contains(words), "{task}: {fault:?}");
    }
}

#[tokio::test]
async fn an_endless_loop_ends_at_its_deadline() {
    let fault = fault(Run { time: Duration::from_millis(200), ..run("loop", "[]") }).await;
    assert_eq!(fault.kind, FaultKind::Timeout);
    assert_eq!(fault.message, "the run took longer than 0.2 s");
}

#[tokio::test]
async fn an_instance_that_is_never_made_ends_at_its_deadline() {
    let sandbox = sandbox();
    let start = "(start $start) (func $start (loop $forever (br $forever))) (func $recurse";
    let plugin = sandbox.load(&changed("(func $recurse", start)).unwrap();
    let run = Run { time: Duration::from_millis(200), ..run("echo", "[]") };
    let ending = sandbox.run(&plugin, run).await;
    assert!(
        matches!(&ending, Ending::Fault(fault) if fault.kind == FaultKind::Timeout),
        "{ending:?}"
    );
}

#[tokio::test]
async fn a_polite_plugin_stops_by_itself_before_its_deadline() {
    let run = Run { time: Duration::from_secs(5), ..run("polite", "[7]") };
    assert_eq!(returned(run).await, "[7]");
}

#[tokio::test]
async fn whoever_drops_a_run_gives_its_place_to_the_next() {
    let sandbox =
        Sandbox::new(&Settings { cache: None, threads: 1, runs_max: 1, memory_mib: 128 }).unwrap();
    let plugin = guest(&sandbox);
    let endless = sandbox.run(&plugin, run("loop", "[]"));
    assert!(tokio::time::timeout(Duration::from_millis(100), endless).await.is_err());
    assert!(matches!(sandbox.run(&plugin, run("echo", "[]")).await, Ending::Returned(_)));
}

#[tokio::test]
async fn runs_wait_until_there_is_memory_for_them() {
    let settings = Settings { cache: None, threads: 1, runs_max: 4, memory_mib: 130 };
    let sandbox = Sandbox::new(&settings).unwrap();
    let plugin = guest(&sandbox);
    let of = |memory_mib, run| Run { limits: Limits { memory_mib }, ..run };
    let large = of(131, run("echo", "[]"));
    let Ending::Fault(fault) = sandbox.run(&plugin, large).await else { panic!("it ran") };
    assert_eq!(fault.kind, FaultKind::NotStarted);
    assert_eq!(fault.message, "a run may have 131 MiB, all plugins here 130 MiB");

    let endless = sandbox.run(&plugin, run("loop", "[]"));
    let short = Duration::from_millis(200);
    let late = Run { time: short, ..run("echo", "[]") };
    tokio::select! {
        biased;
        ending = endless => panic!("{ending:?}"),
        () = async {
            assert!(matches!(sandbox.run(&plugin, of(2, run("echo", "[]"))).await, Ending::Returned(_)));
            let ending = sandbox.run(&plugin, late).await;
            let Ending::Fault(fault) = ending else { panic!("{ending:?}") };
            assert_eq!(fault.kind, FaultKind::Timeout);
        } => {}
    }
    assert!(matches!(sandbox.run(&plugin, run("echo", "[]")).await, Ending::Returned(_)));
}

#[tokio::test]
async fn a_plugin_describes_itself_while_all_places_are_taken() {
    let sandbox =
        Sandbox::new(&Settings { cache: None, threads: 1, runs_max: 1, memory_mib: 128 }).unwrap();
    let plugin = guest(&sandbox);
    let endless = sandbox.run(&plugin, run("loop", "[]"));
    tokio::select! {
        biased;
        ending = endless => panic!("{ending:?}"),
        tasks = sandbox.describe(&plugin) => assert_eq!(tasks.unwrap().len(), 2),
    }
}

#[tokio::test]
async fn endless_loops_on_all_threads_leave_room_for_others() {
    let sandbox = Arc::new(sandbox());
    let plugin = guest(&sandbox);
    let burning: Vec<_> = (0..3)
        .map(|_| {
            let (sandbox, plugin) = (Arc::clone(&sandbox), plugin.clone());
            tokio::spawn(async move { sandbox.run(&plugin, run("loop", "[]")).await })
        })
        .collect();
    for _ in 0..10 {
        assert!(matches!(sandbox.run(&plugin, run("echo", "[]")).await, Ending::Returned(_)));
    }
    for burning in burning {
        burning.abort();
    }
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut() {
    let heard = Arc::new(Heard::default());
    returned(Run { journal: heard.clone(), ..run("flood", "[]") }).await;
    let lines = heard.lines.lock().unwrap();
    assert_eq!(lines.len(), 1_001);
    assert_eq!(lines[0], (Level::Info, "a line".to_owned()));
    let last = "4000 more lines were dropped: a run may log 1000";
    assert_eq!(lines[1_000], (Level::Warning, last.to_owned()));
    let word = (Some(0.5), Some("half of it".to_owned()));
    assert_eq!(heard.progress.lock().unwrap().last(), Some(&word));
}

struct Anywhere;

impl Reach for Anywhere {
    fn may_reach(&self, _url: &reqwest::Url) -> bool {
        true
    }
}

#[tokio::test]
async fn requests_need_a_grant_and_a_public_address() {
    let granted = || Grants { http: Some(Arc::new(Anywhere)), ..Grants::default() };
    // Nobody listens on the port.
    let args = r#"["http://127.0.0.1:9/"]"#;
    assert_eq!(returned(run("outside", args)).await, r#""denied""#);
    assert_eq!(returned(Run { grants: granted(), ..run("outside", args) }).await, r#""failed""#);
    let name = r#"["http://localhost:9/"]"#;
    assert_eq!(returned(Run { grants: granted(), ..run("outside", name) }).await, r#""denied""#);
}

#[test]
fn what_is_no_plugin_is_refused_with_the_reason() {
    let sandbox = sandbox();
    let core = wat::parse_str("(module)").unwrap();
    assert!(matches!(sandbox.load(&core), Err(Unfit::CoreModule)));
    assert!(matches!(sandbox.load(b"hello"), Err(Unfit::NotWebAssembly)));
    let broken = guests::plugin(guests::GUEST).iter().take(2_000).copied().collect::<Vec<_>>();
    assert!(matches!(sandbox.load(&broken), Err(Unfit::NotCompiled(_))));
    let table = changed("(memory (export", "(table 1000000 funcref) (memory (export");
    let Err(Unfit::NotCompiled(reason)) = sandbox.load(&table) else { panic!("it fits") };
    assert!(reason.contains("exceeds the limit of 200000"), "{reason}");
    let empty = wat::parse_str("(component)").unwrap();
    let Err(Unfit::WrongWorld(reason)) = sandbox.load(&empty) else { panic!("it fits") };
    assert!(reason.contains("nightshift:plugin/tasks@0.1.0"), "{reason}");
    let foreign = r#"(component (import "acme:rocket/launch@1.0.0" (instance
        (export "now" (func)))))"#;
    let Err(Unfit::WrongWorld(reason)) = sandbox.load(&wat::parse_str(foreign).unwrap()) else {
        panic!("it fits")
    };
    assert!(reason.contains("acme:rocket/launch"), "{reason}");
}

/// Everything below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn what_was_compiled_apart_is_not_compiled_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().canonicalize().unwrap();
    let component = guests::plugin(guests::GUEST);
    let code = || {
        let of_modules =
            |path: &PathBuf| path.components().any(|part| part.as_os_str() == "modules");
        let is_code = |path: &PathBuf| of_modules(path) && path.extension().is_none();
        files(&cache).into_iter().filter(is_code).count()
    };
    compile(&component, &cache).unwrap();
    assert_eq!(code(), 1);
    let settings =
        Settings { cache: Some(cache.clone()), threads: 1, runs_max: 1, memory_mib: 128 };
    Sandbox::new(&settings).unwrap().load(&component).unwrap();
    assert_eq!(code(), 1, "both engines make the same code of it");
}

#[tokio::test]
async fn a_describe_that_ends_badly_is_refused() {
    let sandbox = sandbox();
    let trap = changed("(call $info (i32.const 1024)", "unreachable (call $info (i32.const 1024)");
    let error = sandbox.describe(&sandbox.load(&trap).unwrap()).await.unwrap_err();
    assert!(error.to_string().starts_with("describe() ended badly: the plugin gave up"), "{error}");
    // Code that runs when the instance is made.
    let memory = changed("(memory (export \"memory\") 2)", "(memory (export \"memory\") 8000)");
    let error = sandbox.describe(&sandbox.load(&memory).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("more than its 256 MiB"), "{error}");
}
