//! Headers of requests: each line of the input is a value, and its first byte says whose.
#![no_main]

use actix_web::{
    HttpRequest,
    http::header::{HeaderName, HeaderValue},
    test::TestRequest,
};
use libfuzzer_sys::fuzz_target;
use nightshift::{
    api::fuzzing,
    domain::limits::{IDEMPOTENCY_KEY_CHARS_MAX, WAIT_MAX},
};
use nightshift_fuzz::check_problem;
use nightshift_openapi::ErrorCode;

const NAMES: [HeaderName; 4] = [
    HeaderName::from_static("prefer"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("last-event-id"),
];

fuzz_target!(|input: &[u8]| {
    let mut request = TestRequest::default();
    for line in input.split(|byte| *byte == b'\n') {
        let Some((which, value)) = line.split_first() else { continue };
        let name = &NAMES[usize::from(*which) % NAMES.len()];
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        request = request.append_header((name.clone(), value));
    }
    let request = request.to_http_request();
    assert!(fuzzing::prefer_wait(&request).is_none_or(|wait| wait <= WAIT_MAX));
    check_key(&request);
    if let Some(traceparent) = fuzzing::traceparent(&request) {
        check_traceparent(&traceparent);
    }
    let other = Some("1".to_owned());
    match fuzzing::last_event_id(&request, other.clone()) {
        Ok(Some(id)) => assert!(!id.is_empty()),
        Ok(None) => panic!("the parameter is lost"),
        Err(error) => assert_eq!(error.code(), ErrorCode::InvalidCursor),
    }
});

fn check_key(request: &HttpRequest) {
    match fuzzing::idempotency_key(request) {
        Ok(None) => assert!(!request.headers().contains_key("idempotency-key")),
        Ok(Some(key)) => {
            assert!((1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&key.len()));
            assert!(key.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)));
            let quoted = ("idempotency-key", format!("\"{key}\""));
            let again = TestRequest::default().insert_header(quoted).to_http_request();
            assert_eq!(fuzzing::idempotency_key(&again).unwrap(), Some(key));
        }
        Err(error) => {
            assert_eq!(error.code(), ErrorCode::InvalidHeader);
            assert_eq!(check_problem(&error).pointer, None);
        }
    }
}

/// W3C Trace Context, section 3.2.
fn check_traceparent(value: &str) {
    assert_eq!(value.len(), 55);
    let parts: Vec<&str> = value.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { panic!("{value}") };
    for (part, length) in [(version, 2), (trace, 32), (parent, 16), (flags, 2)] {
        assert_eq!(part.len(), length);
        assert!(part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{value}");
    }
    assert_ne!(version, "ff", "{value}");
    assert!(trace.bytes().any(|byte| byte != b'0'), "{value}");
    assert!(parent.bytes().any(|byte| byte != b'0'), "{value}");
}
