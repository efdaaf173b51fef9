//! The body of `POST /tasks`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nightshift::api::fuzzing;
use nightshift_fuzz::{check_accepted, check_refused};

/// With a byte each for an input to name them by: no comparison leads it to whole words.
const FIELDS: [&str; 19] = [
    "args",
    "kwargs",
    "queue_name",
    "priority",
    "run_after",
    "expires_at",
    "timeout_seconds",
    "max_attempts",
    "backoff",
    "labels",
    "id",
    "unique_key",
    "backoff\":{\"initial_seconds",
    "backoff\":{\"factor",
    "backoff\":{\"max_seconds",
    "backoff\":{\"jitter",
    "labels\":{\"a\":\"b\",\"",
    "~/",
    "",
];

fuzz_target!(|input: &[u8]| {
    check(input);
    check(&fields(input));
});

fn check(body: &[u8]) {
    let request = match fuzzing::task(body) {
        Ok(request) => request,
        Err(error) => return check_refused(&error, body),
    };
    match fuzzing::content(request.clone()) {
        Ok(content) => check_accepted(&request, &content, body),
        Err(error) => check_refused(&error, body),
    }
}

/// An object with a field a line: the first byte chooses its name, the rest is its value.
fn fields(input: &[u8]) -> Vec<u8> {
    let mut body = br#"{"task_path":"a""#.to_vec();
    for line in input.split(|byte| *byte == b'\n') {
        let Some((which, value)) = line.split_first() else { continue };
        let name = FIELDS[usize::from(*which) % FIELDS.len()];
        body.extend_from_slice(format!(",\"{name}\":").as_bytes());
        body.extend_from_slice(value);
        if name.contains('{') {
            body.push(b'}');
        }
    }
    body.push(b'}');
    body
}
