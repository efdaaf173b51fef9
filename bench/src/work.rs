//! Arguments and results of the bench's tasks, about as large as those of users.

use nightshift_client::types::{FinishRequest, Json, TaskRequest};

/// The result of each task.
pub(crate) const RESULT: &str = r#"{"sources": 69, "zero_point": 25.31}"#;

pub(crate) fn task(path: &str) -> anyhow::Result<TaskRequest> {
    Ok(TaskRequest {
        args: Some(Json::from_text(r#"["m31", 42]"#.to_owned())?),
        kwargs: Some(Json::from_text(r#"{"exptime": 30.5}"#.to_owned())?),
        ..TaskRequest::new(path)
    })
}

/// The report of an attempt that did its work.
pub(crate) fn end() -> anyhow::Result<FinishRequest> {
    let return_value = Some(Json::from_text(RESULT.to_owned())?);
    Ok(FinishRequest { return_value, ..FinishRequest::default() })
}
