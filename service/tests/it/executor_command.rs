//! `nightshift executor check`: the Python kit as it is, and with one fault at a time.

use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::support::{app::SECRET, process::binary, soon};

const EXECUTOR: &str = include_str!("../../../examples/executors/python/executor.py");
const TASKS: &str = include_str!("../../../examples/executors/python/check.py");

/// A text of the kit, and what stands there in its place.
type Fault = (&'static str, &'static str);

/// Takes no notice of a signature.
const IGNORES_SIGNATURES: Fault = ("if self.is_signed(body) else", "if True else");
/// Answers a `task.cancel`, and goes on.
const IGNORES_CANCELS: Fault = ("running and running.set()", "None");
/// Works on when its lease is lost.
const IGNORES_LOSS: Fault = (" == 409 and not self.set()", " == 409");

/// The kit in a process of its own.
struct Kit {
    url: String,
    _process: Child,
    _folder: TempDir,
}

impl Kit {
    async fn start(faults: &[Fault]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut executor, mut tasks) = (EXECUTOR.to_owned(), TASKS.to_owned());
        for (right, wrong) in faults {
            let before = (executor.clone(), tasks.clone());
            executor = executor.replace(right, wrong);
            tasks = tasks.replace(right, wrong);
            assert_ne!(before, (executor.clone(), tasks.clone()), "the kit has no {right:?}");
        }
        std::fs::write(folder.path().join("executor.py"), executor).unwrap();
        std::fs::write(folder.path().join("check.py"), tasks).unwrap();
        let mut process = Command::new("python3")
            .arg(folder.path().join("check.py"))
            .env("NIGHTSHIFT_SECRET", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // What a fault leads to there is nobody's business.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = soon("the start of an executor", lines.next_line()).await.unwrap().unwrap();
        Self { url: format!("http://127.0.0.1:{port}/"), _process: process, _folder: folder }
    }

    /// The exit status, and what was printed.
    async fn check(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = binary();
        command.args(["executor", "check", &self.url, "--secret", SECRET]).args(arguments);
        let output = soon("the end of a check", command.output()).await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }
}

/// The checks of that name which fail on a kit with the faults, and why.
async fn failing(only: &str, faults: &[Fault]) -> Vec<(String, String)> {
    let (status, text) = Kit::start(faults).await.check(&["--only", only, "--json"]).await;
    let told: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    let checks = told["checks"].as_array().unwrap();
    let failed: Vec<_> = checks
        .iter()
        .filter(|check| check["result"] == "failed")
        .map(|check| {
            let text = |name: &str| check[name].as_str().unwrap().to_owned();
            (text("name"), text("reason"))
        })
        .collect();
    assert!(failed.len() == checks.len() || checks.iter().any(|check| check["result"] == "ok"));
    assert_eq!(told["passed"], failed.is_empty());
    assert_eq!(status, Some(i32::from(!failed.is_empty())));
    failed
}

/// Each set of faults fails the checks whose names end so, and no others.
async fn each_fails(only: &str, cases: &[(&[Fault], &[&str])]) {
    for (faults, expected) in cases {
        let failed = failing(only, faults).await;
        let fits = failed.len() == expected.len()
            && failed.iter().zip(*expected).all(|((name, _), end)| name.ends_with(end));
        assert!(fits, "{faults:?} fails {failed:#?}, not {expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_kit_passes() {
    let (status, text) = Kit::start(&[]).await.check(&["--strict", "--echoes-task-id"]).await;
    assert_eq!(status, Some(0), "{text}");
    assert!(text.ends_with("\n27 ok, 0 failed, 0 skipped\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_does_not_say_the_tasks_id_fails_where_it_has_to() {
    let check = ["--only", "answer: the task's id", "--echoes-task-id"];
    for (wrong, why) in [
        ("\"x-task-id\", message", "has no such header"),
        ("\"nightshift-task-id\", \"1\" or message", "says \"1\""),
    ] {
        let kit = Kit::start(&[("\"nightshift-task-id\", message", wrong)]).await;
        let (status, text) = kit.check(&check).await;
        assert!(status == Some(1) && text.contains(why), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_ignores_the_signature_fails() {
    let failed = failing("signature", &[IGNORES_SIGNATURES]).await;
    let names: Vec<_> = failed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "signature: none is refused",
            "signature: one by another secret is refused",
            "signature: one of another body is refused",
            "signature: one of another id is refused",
            "signature: one of an hour ago is refused",
            "signature: one of an hour from now is refused",
            "signature: a task.cancel without one is refused",
            "signature: what is refused is not begun",
        ]
    );
    assert_eq!(failed[0].1, "was to refuse with 401 or another 4xx, and answers 200: success");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_answers_200_twice_for_a_cancelled_task_fails() {
    let failed = failing("cancel", &[IGNORES_CANCELS]).await;
    let why = "answers 200: success although the attempt was cancelled";
    let expected = ["work in the request stops", "the same message again stops, too"]
        .map(|name| (format!("cancel: {name}"), why.to_owned()));
    assert_eq!(failed, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_finishes_late_fails() {
    let finishes = ("if not self.lost and", "if (what == 'finish' or not self.lost) and");
    let failed = failing("late", &[IGNORES_CANCELS, IGNORES_LOSS, finishes]).await;
    let why = "finishes late, after its lease has ended";
    let expected = ["a lost lease", "the deadline"]
        .map(|end| (format!("late: nothing after {end}"), why.to_owned()));
    assert_eq!(failed, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_goes_on_reporting_fails() {
    let failed = failing("late", &[(" == 409 and not self.set()", " == 0")]).await;
    let expected = "goes on reporting after the answer 409 lease_lost";
    assert_eq!(failed, [("late: nothing after a lost lease".to_owned(), expected.to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_signatures_is_told_apart() {
    let begins = (
        "answer(message) if message else (401, None)",
        "(answer(message or json.loads(body)), (401, None))[not message]",
    );
    each_fails(
        "signature",
        &[
            (
                &[("hmac.compare_digest(right, one)", "False")],
                &["right one is taken", "two is taken"],
            ),
            (&[("\"\").split()", "\"\").split()[:1]")], &["the second of two is taken"]),
            (
                &[("abs(time.time() - float(at)) < 300", "True")],
                &["an hour ago is refused", "an hour from now is refused", "refused is not begun"],
            ),
            (&[begins], &["what is refused is not begun"]),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_answers_is_told_apart() {
    let once = (
        "[args, kwargs]",
        "[args, kwargs] if attempt.data['task_id'] not in sys.path and not \
         sys.path.append(attempt.data['task_id']) else None",
    );
    let strict = ("    data = message", "    assert len(message) == 3\n    data = message");
    each_fails(
        "answer",
        &[
            (&[("[args, kwargs]", "[args, {}]")], &["arguments come as they were sent"]),
            (&[strict], &["unknown fields do no harm"]),
            (&[once], &["the same message again is answered alike"]),
            (&[("lambda attempt: None", "lambda attempt: 0")], &["null"]),
            (&[("\"status\", 500", "\"status\", 400")], &["may be tried again"]),
            (&[("status = 422", "status = 500")], &["a refusal fails for good"]),
            (
                &[("\"message\": str(error)", "\"said\": str(error)")],
                &["may be tried again", "a refusal fails for good"],
            ),
            (&[("\"Retry-After\", \"5\"", "\"Retry-After\", \"soon\"")], &["not now, and when"]),
            (&[("status = 503", "status = 500")], &["not now, and when"]),
            (&[("return 404", "return 500")], &["a path that nobody serves is refused"]),
            (&[("attempt.wait(seconds) or seconds", "fail(ValueError())")], &["the request"]),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b106_b107_a_redirect_and_a_huge_answer_fail() {
    let echoes: &[&str] = &["as they were sent", "do no harm", "answered alike"];
    each_fails(
        "answer",
        &[
            (
                &[("(200, value)", "(307, value)")],
                &[echoes[0], echoes[1], echoes[2], "null", "the request"],
            ),
            (&[("[args, kwargs]", "'x' * 5_000_000")], echoes),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_accepted_work_is_told_apart() {
    let both: &[&str] = &["heartbeats, and one end", "one piece of work"];
    each_fails(
        "accepted",
        &[
            (&[("self.report(\"renew\", {})", "pass")], both),
            (&[("{\"return_value\": value}", "{\"value\": value}")], both),
            (&[("running or threading", "threading")], &["one piece of work"]),
        ],
    )
    .await;
    let twice =
        ("self.report(\"finish\",", "self.report(\"finish\", end), self.report(\"finish\",");
    let success = ("{\"cancelled\": True} if self.is_set() else end", "{\"return_value\": 1}");
    each_fails("cancel", &[(&[twice], &["accepted work stops"])]).await;
    each_fails("cancel", &[(&[success], &["accepted work stops"])]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_is_skipped_or_fails() {
    let kit = Kit::start(&[("\"check.null\"", "\"my.null\"")]).await;
    let (status, text) = kit.check(&["--only", "answer: null"]).await;
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.contains("skipped  answer: null: the executor does not serve check.null"),
        "{text}"
    );
    let (status, text) = kit.check(&["--only", "answer: null", "--strict"]).await;
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("FAILED   answer: null: "), "{text}");
    let (status, _) = kit.check(&["--only", "answer: null", "--null", "my.null", "--strict"]).await;
    assert_eq!(status, Some(0));
    let (status, text) = kit.check(&["--echo", "nobody"]).await;
    assert_eq!(status, Some(2));
    assert!(text.contains("the executor does not serve nobody"), "{text}");
    let (status, text) = kit.check(&["--only", "nothing"]).await;
    assert_eq!(status, Some(2));
    assert!(text.contains("no check's name begins with \"nothing\""), "{text}");
}
