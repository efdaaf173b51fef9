//! What several targets check.

mod tree;

use jiff::Timestamp;
use nightshift::{
    api::{Error, fuzzing},
    domain::{
        limits::{DETAIL_BYTES_MAX, LABELS_MAX, NAME_CHARS_MAX, POINTER_KEY_BYTES_MAX},
        task::{Content, NewTask, Options, Repeat, Task, TaskId},
    },
};
use nightshift_openapi::{ErrorCode, Problem, TaskRequest};
use serde::Deserialize;
use serde_json::value::RawValue;

use self::tree::Tree;

/// Six bytes for each of a detail's (`\u0001`), two for each of a key's (`~0`), and some more.
const PROBLEM_BYTES_MAX: usize = 6 * DETAIL_BYTES_MAX + 3 * 6 * POINTER_KEY_BYTES_MAX;

/// The answer to what was refused blames the client, says where, and can be read.
pub fn check_refused(error: &Error, body: &[u8]) {
    let problem = check_problem(error);
    let Ok(tree) = serde_json::from_slice::<Tree>(body) else {
        return;
    };
    assert_ne!(error.code(), ErrorCode::MalformedJson, "the body is JSON: {problem}");
    if let Some(pointer) = &problem.pointer {
        assert!(tree.has(pointer), "the body has no such place: {problem}");
    }
}

/// The same where the pointer leads nowhere in the body.
pub fn check_problem(error: &Error) -> Problem {
    let problem = error.problem();
    assert!((400..500).contains(&problem.status), "{problem}");
    assert_eq!(problem.error_code(), Some(error.code()));
    assert!(problem.pointer.as_deref().is_none_or(is_pointer), "{problem:?}");
    let text = serde_json::to_string(&problem).expect("a problem is JSON");
    assert!(text.len() < PROBLEM_BYTES_MAX, "a large body is sent back");
    assert_eq!(serde_json::from_str::<Problem>(&text).expect("it can be read"), problem);
    problem
}

/// RFC 6901, section 3.
fn is_pointer(text: &str) -> bool {
    (text.is_empty() || text.starts_with('/'))
        && text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}

/// What was accepted is what the text says, within its bounds, and stays so when it is written
/// and read again.
pub fn check_accepted(request: &TaskRequest, content: &Content, text: &[u8]) {
    #[derive(Deserialize)]
    struct Carried<'a> {
        #[serde(borrow)]
        args: Option<&'a RawValue>,
        #[serde(borrow)]
        kwargs: Option<&'a RawValue>,
    }
    let carried: Carried<'_> = serde_json::from_slice(text).expect("what was accepted is JSON");
    assert_eq!(content.args.as_str(), carried.args.map_or("[]", RawValue::get));
    assert_eq!(content.kwargs.as_str(), carried.kwargs.map_or("{}", RawValue::get));
    check_bounds(content);

    let written = serde_json::to_vec(request).expect("a request is JSON");
    let read = fuzzing::task(&written).expect("what is written can be read");
    assert_eq!(without_fractions(read), without_fractions(request.clone()));
    check_record(content);
}

/// Reading a fraction may be off by its last bit (`serde_json` without `float_roundtrip`).
fn without_fractions(request: TaskRequest) -> TaskRequest {
    TaskRequest { timeout_seconds: None, backoff: None, ..request }
}

fn check_bounds(content: &Content) {
    for name in [content.task_path.as_str(), content.queue_name.as_str()] {
        assert!((1..=NAME_CHARS_MAX).contains(&name.chars().count()), "{name:?}");
        assert!(!name.contains(char::is_whitespace), "{name:?}");
    }
    assert!((-100..=100).contains(&content.priority));
    assert!(content.labels.len() <= LABELS_MAX);
    let terms = content.options.resolve(None);
    assert!((1..=100).contains(&terms.max_attempts));
    assert!(!terms.timeout.is_zero());
    for chance in [0.0, 1.0] {
        // Panics if the numbers are no duration.
        terms.backoff.delay(1, chance);
        terms.backoff.delay(u32::MAX, chance);
    }
}

/// The record that is answered says the same.
fn check_record(content: &Content) {
    let new = NewTask {
        id: TaskId(Default::default()),
        content: content.clone(),
        repeat: Repeat::Never,
        traceparent: None,
    };
    let task = Task::fresh(&new, Timestamp::UNIX_EPOCH, None, Options::default().resolve(None));
    let record = fuzzing::record(task).expect("what was accepted can be shown");
    let text = serde_json::to_string(&record).expect("a record is JSON");
    let record: nightshift_openapi::Task = serde_json::from_str(&text).expect("it can be read");
    assert_eq!(record.task_path, content.task_path.as_str());
    assert_eq!(record.args.as_str(), content.args.as_str());
    assert_eq!(record.kwargs.as_str(), content.kwargs.as_str());
    assert_eq!(record.queue_name, content.queue_name.as_str());
    assert_eq!(record.labels, content.labels);
    assert_eq!(record.unique_key, content.unique_key);
    assert_eq!(record.run_after, content.run_after.map(Into::into));
    assert_eq!(record.expires_at, content.expires_at.map(Into::into));
}
