//! Reads the request headers that the API uses.

use std::time::Duration;

use actix_web::HttpRequest;
use nightshift_openapi::ErrorCode;

use super::Error;
use crate::domain::limits::{IDEMPOTENCY_KEY_CHARS_MAX, WAIT_MAX};

/// The wait of `Prefer: wait=S` (RFC 7240), at most 50 s. Other preferences are ignored, as the RFC
/// demands.
pub(super) fn prefer_wait(request: &HttpRequest) -> Option<Duration> {
    request
        .headers()
        .get_all("prefer")
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .filter_map(|preference| preference.trim().split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(WAIT_MAX))
}

/// The key in the header `Idempotency-Key`: a quoted string, as the IETF draft demands, or the
/// plain text that most clients send.
pub(super) fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Error> {
    let Some(value) = request.headers().get("idempotency-key") else {
        return Ok(None);
    };
    let refused = |why: &str| {
        let detail = format!("Idempotency-Key {why}");
        Err(Error::new(ErrorCode::InvalidHeader, detail))
    };
    let Ok(text) = value.to_str() else {
        return refused("must be visible ASCII");
    };
    let text = text.trim();
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_CHARS_MAX {
        return refused(&format!("needs 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters"));
    }
    Ok(Some(key.to_owned()))
}

/// The W3C trace context of the request. An invalid one is ignored, as its specification demands.
pub(super) fn traceparent(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get("traceparent")?.to_str().ok()?;
    let parts: Vec<&str> = value.split('-').collect();
    let [version, trace_id, parent_id, flags] = parts.as_slice() else {
        return None;
    };
    let hex = |part: &str, length| {
        part.len() == length
            && part.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
    };
    let names_one = |id: &str| id.bytes().any(|digit| digit != b'0');
    let valid = hex(version, 2)
        && hex(trace_id, 32)
        && hex(parent_id, 16)
        && hex(flags, 2)
        && *version != "ff"
        && names_one(trace_id)
        && names_one(parent_id);
    valid.then(|| value.to_owned())
}
