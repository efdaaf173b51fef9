//! What an executor's answer means.

use std::{borrow::Cow, time::Duration};

use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::Answer;
use crate::domain::{
    Timestamp,
    attempt::{Failure, FailureKind, Outcome},
    json::JsonText,
    limits::cut_end,
};

/// Bytes of a body that is no report, shown in an error's message.
const EXCERPT_BYTES_MAX: usize = 1_024;

/// Reads an answer by the table of docs/EXECUTORS.md.
pub(super) async fn read(response: Response, bytes_max: usize, now: Timestamp) -> Answer {
    let status = response.status();
    if status == StatusCode::ACCEPTED {
        return Answer::Accepted;
    }
    if is_not_now(status) {
        let retry_after = retry_after(response.headers(), now);
        let reason = format!("the executor answered {}", status.as_u16());
        return Answer::Ended(Outcome::Undelivered { reason, retry_after });
    }
    let body = match body(response, bytes_max).await {
        Ok(body) => body,
        Err(failure) => return Answer::Ended(Outcome::Failed(failure)),
    };
    Answer::Ended(match status {
        StatusCode::NO_CONTENT => Outcome::Succeeded(JsonText::null()),
        StatusCode::OK | StatusCode::CREATED => returned(&body),
        _ => Outcome::Failed(failed(status, &body)),
    })
}

/// The work was certainly not begun.
fn is_not_now(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    )
}

/// `Retry-After` as seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

async fn body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let too_large = || {
        let message = format!("the executor's answer has more than {bytes_max} bytes");
        Failure::new(FailureKind::Rejected, message)
    };
    let announced = response.content_length().unwrap_or(0);
    if announced > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > bytes_max => return Err(too_large()),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => {
                let message = format!("the executor's answer broke off: {error}");
                return Err(Failure::new(FailureKind::Lost, message));
            }
        }
    }
}

fn returned(body: &[u8]) -> Outcome {
    let rejected = |why: String| {
        let message = format!("the executor's return value cannot be kept: {why}");
        Outcome::Failed(Failure::new(FailureKind::Rejected, message))
    };
    match serde_json::from_slice::<&RawValue>(body) {
        Ok(value) => match JsonText::from_valid(value.get()) {
            Ok(value) => Outcome::Succeeded(value),
            Err(_too_deep) => rejected("it is nested too deeply".to_owned()),
        },
        Err(error) => rejected(format!("it is not JSON ({error})")),
    }
}

/// What executors may say of an error: our own words, or those of RFC 9457.
#[derive(Default, Deserialize)]
struct Report {
    exception_class_path: Option<String>,
    message: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    traceback: Option<String>,
    retryable: Option<bool>,
}

fn failed(status: StatusCode, body: &[u8]) -> Failure {
    let retryable = status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT;
    let kind = if retryable { FailureKind::Exception } else { FailureKind::Rejected };
    let base = Failure::new(kind, "");
    let Some(report) = report(body) else {
        return Failure { message: unexplained(status, body), ..base };
    };
    let message = report.message.or(report.detail).or(report.title);
    Failure {
        message: message.unwrap_or_else(|| unexplained(status, b"")),
        exception_class_path: report.exception_class_path,
        traceback: report.traceback,
        retryable: report.retryable.unwrap_or(base.retryable),
        ..base
    }
}

fn report(body: &[u8]) -> Option<Report> {
    let text = std::str::from_utf8(body).ok()?;
    serde_json::from_str(text)
        .or_else(|_| serde_json::from_str(&without_lone_surrogates(text)))
        .ok()
}

/// JSON may hold half a surrogate pair, text in Rust may not: such a half becomes U+FFFD, so that
/// one odd character does not lose the whole report.
fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    let mut mended = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let pair = surrogate(escape).zip(escape.get(6..).and_then(surrogate));
        let taken = match (surrogate(escape), pair) {
            (_, Some((0xD800..=0xDBFF, 0xDC00..=0xDFFF))) => 12,
            (Some(_), _) => {
                mended.push_str("\\ufffd");
                rest = escape.get(6..).unwrap_or_default();
                continue;
            }
            // A backslash and what it escapes.
            (None, _) => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (kept, after) = escape.split_at(taken);
        mended.push_str(kept);
        rest = after;
    }
    if mended.is_empty() {
        return Cow::Borrowed(text);
    }
    mended.push_str(rest);
    Cow::Owned(mended)
}

/// The surrogate that `text` begins with, if it does.
fn surrogate(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let unit = u16::from_str_radix(digits, 16).ok()?;
    (0xD800..=0xDFFF).contains(&unit).then_some(unit)
}

fn unexplained(status: StatusCode, body: &[u8]) -> String {
    let note = match status.as_u16() {
        300..=399 => ", and redirects are never followed",
        _ => "",
    };
    let text = String::from_utf8_lossy(body);
    let excerpt = cut_end(text.trim(), EXCERPT_BYTES_MAX);
    let colon = if excerpt.is_empty() { "" } else { ": " };
    format!("the executor answered {}{note}{colon}{excerpt}", status.as_u16())
}
