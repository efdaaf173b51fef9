//! Translates an executor's HTTP answer into an [`Answer`], by the table of docs/EXECUTORS.md.

use std::time::Duration;

use reqwest::{
    Response, StatusCode,
    header::{CONTENT_ENCODING, HeaderMap, RETRY_AFTER},
};
use serde::Deserialize;

use super::super::{Answer, returned::returned};
use crate::domain::{
    Timestamp,
    attempt::{Failure, FailureKind, Outcome},
    json::{JsonText, without_lone_surrogates},
    limits::cut_end,
};

/// If a body is not a readable error report, this many bytes of it are shown in the error's
/// message.
const EXCERPT_BYTES_MAX: usize = 1_024;

/// Reads the answer. Its body may have at most `bytes_max` bytes.
pub(crate) async fn read(response: Response, bytes_max: usize, now: Timestamp) -> Answer {
    let status = response.status();
    if status == StatusCode::ACCEPTED {
        return Answer::Accepted;
    }
    if is_not_now(status) || is_not_us(status) {
        let retry_after = retry_after(response.headers(), now);
        let mut reason = format!("the executor answered {}", status.as_u16());
        if is_not_us(status) {
            reason
                .push_str(": it does not take the service's signature, or asks for more than that");
        }
        return Answer::Ended(Outcome::Undelivered { reason, retry_after });
    }
    let encoding = encoding(response.headers());
    // A body with an encoding is read to its end as well, but then counts as empty, since its bytes
    // cannot be understood.
    let body = match body(response, bytes_max).await {
        Ok(_unreadable) if encoding.is_some() => Vec::new(),
        Ok(body) => body,
        Err(failure) => return Answer::Ended(Outcome::Failed(failure)),
    };
    Answer::Ended(match status {
        StatusCode::NO_CONTENT => Outcome::Succeeded(JsonText::null()),
        StatusCode::OK | StatusCode::CREATED => match encoding {
            Some(encoding) => Outcome::Failed(unreadable(&encoding)),
            None => returned(&body, "executor's"),
        },
        _ => Outcome::Failed(failed(status, &body)),
    })
}

/// The executor certainly did not begin the work, and may take the task later.
fn is_not_now(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    )
}

/// The executor refuses the service's signature, for instance after its secret was changed on one
/// side only. The task is delivered again later; as a failed attempt, it and all other tasks of the
/// executor would be lost.
fn is_not_us(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// The encoding of the body, if it has one although the call accepts none. Such a body is not
/// decoded: a few compressed bytes could become far more than the limit of an answer.
fn encoding(headers: &HeaderMap) -> Option<String> {
    let encoding = String::from_utf8_lossy(headers.get(CONTENT_ENCODING)?.as_bytes());
    let encoding = encoding.trim();
    (!encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity"))
        .then(|| encoding.to_owned())
}

fn unreadable(encoding: &str) -> Failure {
    let message = format!(
        "the executor's answer has Content-Encoding: {encoding}, although the call asks for \
         Accept-Encoding: identity"
    );
    Failure::new(FailureKind::Rejected, message)
}

/// The wait that `Retry-After` asks for, in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// Reads the body up to `bytes_max`. The length is checked both in the header, so that a large body
/// is refused before it is read, and while reading, since the header may be missing.
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

/// An error report: with the fields of Nightshift's own format, or those of RFC 9457.
#[derive(Default, Deserialize)]
struct Report {
    exception_class_path: Option<String>,
    message: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    traceback: Option<String>,
    retryable: Option<bool>,
}

/// The failure that an error status and its body describe.
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

/// Reads the report. Lone surrogates are replaced only if it cannot be read otherwise.
fn report(body: &[u8]) -> Option<Report> {
    let text = std::str::from_utf8(body).ok()?;
    serde_json::from_str(text)
        .or_else(|_| serde_json::from_str(&without_lone_surrogates(text)))
        .ok()
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
