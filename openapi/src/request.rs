use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Json, Timestamp, bounded,
    number::whole,
    object,
    schema::{Key, Kwargs, Labels, QueueName, TaskPath},
};

/// What `POST /tasks` takes. Only `task_path` is required; what is left out comes from the
/// executor's registration, then from the service's defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// Names the work. 1 to 255 visible characters, without white space or `*`.
    #[schema(value_type = TaskPath)]
    pub task_path: String,
    /// Positional arguments, `[]` by default. Carried as text, nested at most 128 deep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Value>>, example = json!(["m31.fits"]))]
    pub args: Option<Json>,
    /// Keyword arguments, `{}` by default. Carried as text, nested at most 128 deep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Kwargs>)]
    pub kwargs: Option<Json>,
    /// `default` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<QueueName>)]
    pub queue_name: Option<String>,
    /// -100 to 100, 0 by default; the highest runs first.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -100, maximum = 100, example = 0)]
    pub priority: Option<i64>,
    /// Not started before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after: Option<Timestamp>,
    /// A task still waiting at this time fails with kind `expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How long one attempt may take, above 0 to 604800 (seven days); 300 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0.0, maximum = 604_800, example = 300.0)]
    pub timeout_seconds: Option<f64>,
    /// How often the task is tried in all, 1 to 100; 3 by default.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100, example = 3)]
    pub max_attempts: Option<i64>,
    /// How long to wait between attempts.
    #[serde(
        default,
        deserialize_with = "object::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub backoff: Option<Backoff>,
    /// At most 32 labels to find the task by: keys of 1 to 63, values of up to 255 characters.
    #[serde(
        default,
        deserialize_with = "bounded::map::<32, _, _>",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    #[schema(value_type = Labels)]
    pub labels: BTreeMap<String, String>,
    /// An id chosen by the caller, which makes the request safe to repeat: the same id with the
    /// same content answers 200 and the first task, with other content 409.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// While a task with this key waits or runs, another request with it answers that task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Key>)]
    pub unique_key: Option<String>,
}

impl TaskRequest {
    /// A request with defaults for everything but the path.
    #[must_use]
    pub fn new(task_path: impl Into<String>) -> Self {
        Self { task_path: task_path.into(), ..Self::default() }
    }
}

/// How long to wait before attempt n + 1: `initial_seconds * factor^(n - 1)`, at most
/// `max_seconds`, spread by `jitter` either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// 0 to 604800; 5 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 604_800, example = 5.0)]
    pub initial_seconds: Option<f64>,
    /// 1 to 100; 2 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100, example = 2.0)]
    pub factor: Option<f64>,
    /// 0 to 604800; 3600 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 604_800, example = 3600.0)]
    pub max_seconds: Option<f64>,
    /// The share of the delay by which it may vary, 0 to 1; 0.2 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1, example = 0.2)]
    pub jitter: Option<f64>,
}

/// What `POST /tasks/batch` takes as JSON: 1 to 10,000 tasks, all enqueued or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskBatch {
    /// The tasks, in the order in which they are to be enqueued.
    #[serde(deserialize_with = "bounded::objects::<10_000, _, _>")]
    #[schema(min_items = 1, max_items = 10000)]
    pub tasks: Vec<TaskRequest>,
}

/// The ids of a batch, in the order of its tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskIds {
    /// One for each task; the first task's id where the batch named it before.
    pub ids: Vec<Uuid>,
    /// Indexes of those of its tasks that were not made, since they had been said before, in an
    /// earlier request or earlier in the batch: the same `id`, or the `unique_key` of a live task.
    #[serde(default)]
    #[schema(required = true)]
    pub existing: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::TaskRequest;

    fn read(text: &str) -> Result<TaskRequest, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn c14_values_are_carried_as_their_text() {
        let args = r#"[10000000000000000000000000000000000000000,1e-7,"\u0000","\ud800",{"b":1,"a":2,"b":3}]"#;
        let text = format!(r#"{{"task_path":"t","args":{args}}}"#);
        let request = read(&text).unwrap();
        assert_eq!(request.args.as_ref().unwrap().as_str(), args);
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
    }

    #[test]
    fn a_whole_float_is_a_whole_number() {
        assert_eq!(read(r#"{"task_path":"t","priority":3.0}"#).unwrap().priority, Some(3));
        assert_eq!(read(r#"{"task_path":"t","priority":null}"#).unwrap().priority, None);
        assert!(read(r#"{"task_path":"t","priority":3.1}"#).is_err());
        assert!(read(r#"{"task_path":"t","priority":true}"#).is_err());
    }

    #[test]
    fn c15_not_a_number_is_a_syntax_error() {
        for value in ["NaN", "Infinity", "-Infinity"] {
            let error = read(&format!(r#"{{"task_path":"t","args":[{value}]}}"#)).unwrap_err();
            assert!(error.is_syntax(), "{value}: {error}");
        }
    }
}
