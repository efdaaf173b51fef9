//! Reports of executors: progress, log lines, and the ends of attempts.

use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;

use super::json;
use crate::{
    api::Error,
    domain::{
        Invalid, Timestamp,
        attempt::{Failure, FailureKind, LogLevel, LogLine, Outcome, Progress},
        json::JsonText,
        limits::LOG_LINES_PER_RENEWAL_MAX,
        log::{NewLog, NewLogLine},
    },
};

pub(in crate::api) fn progress(progress: wire::Progress) -> Result<Progress, Error> {
    Ok(Progress::new(progress.fraction, progress.message)?)
}

pub(in crate::api) fn log_lines(lines: Vec<wire::LogLineRequest>) -> Result<NewLog, Error> {
    if lines.len() > LOG_LINES_PER_RENEWAL_MAX {
        let reason = format!("has more than {LOG_LINES_PER_RENEWAL_MAX} lines");
        return Err(Invalid::new("logs", reason).into());
    }
    let mut log = NewLog::default();
    for line in lines {
        log.push(NewLogLine {
            at: line.at.map(Timestamp::from),
            level: match line.level {
                wire::LogLevel::Debug => LogLevel::Debug,
                wire::LogLevel::Info => LogLevel::Info,
                wire::LogLevel::Warning => LogLevel::Warning,
                wire::LogLevel::Error => LogLevel::Error,
            },
            message: line.message,
        });
    }
    Ok(log)
}

pub(in crate::api) fn wire_log_line(line: LogLine) -> wire::LogLine {
    wire::LogLine {
        at: line.at.into(),
        level: match line.level {
            LogLevel::Debug => wire::LogLevel::Debug,
            LogLevel::Info => wire::LogLevel::Info,
            LogLevel::Warning => wire::LogLevel::Warning,
            LogLevel::Error => wire::LogLevel::Error,
        },
        attempt: line.attempt,
        message: line.message,
    }
}

/// Reads the end of an attempt, which is reported in one of three fields.
///
/// Many clients leave out fields that are null, so a report without any field is a return value of
/// null. Others send them as null, so a return value of null beside another field does not count.
///
/// A return value that cannot be kept is an end as well: the work was done, and doing it again
/// would not make the value smaller.
pub(in crate::api) fn outcome(
    request: wire::FinishRequest,
    bytes_max: usize,
) -> Result<Outcome, Error> {
    let nothing = request.return_value.as_ref().is_none_or(|value| value.as_str() == "null");
    match (request.return_value, request.error, request.cancelled) {
        (Some(value), None, false) if value.as_str().len() > bytes_max => {
            Ok(too_large("the return value", bytes_max))
        }
        (Some(value), None, false) => Ok(match json(&value, "return_value") {
            Ok(value) => Outcome::Succeeded(value),
            Err(too_deep) => rejected("nightshift.ReturnValueTooDeep", too_deep.to_string()),
        }),
        (None, None, false) => Ok(Outcome::Succeeded(JsonText::null())),
        (_, Some(error), false) if nothing => Ok(Outcome::Failed(failure(error))),
        (_, None, true) if nothing => Ok(Outcome::Cancelled),
        _ => {
            let detail = "only one of return_value, error and cancelled: true may be given";
            Err(Error::new(ErrorCode::InvalidField, detail).at(""))
        }
    }
}

/// The end of an attempt whose report is too large to be kept.
pub(in crate::api) fn too_large(what: &str, bytes_max: usize) -> Outcome {
    let message = format!(
        "{what} has more than {bytes_max} bytes: keep large results elsewhere and return where"
    );
    rejected("nightshift.ReturnValueTooLarge", message)
}

fn rejected(class: &str, message: String) -> Outcome {
    Outcome::Failed(Failure {
        exception_class_path: Some(class.to_owned()),
        ..Failure::new(FailureKind::Rejected, message)
    })
}

fn failure(error: wire::ErrorReport) -> Failure {
    let base = Failure::new(FailureKind::Exception, error.message.unwrap_or_default());
    Failure {
        exception_class_path: error.exception_class_path,
        traceback: error.traceback,
        retryable: error.retryable.unwrap_or(base.retryable),
        ..base
    }
}
