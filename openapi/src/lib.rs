//! The words that Nightshift speaks over HTTP.
//!
//! Each type here is the JSON of one request or answer. The service and the client crate share
//! them, and `openapi.json` beside this crate is generated from them, so the three cannot
//! disagree.
//!
//! ```
//! use nightshift_openapi::TaskRequest;
//!
//! let request = TaskRequest {
//!     args: Some("[\"m31.fits\"]".parse()?),
//!     ..TaskRequest::new("myapp.tasks.extract_sources")
//! };
//! assert_eq!(
//!     serde_json::to_string(&request)?,
//!     r#"{"task_path":"myapp.tasks.extract_sources","args":["m31.fits"]}"#
//! );
//! # Ok::<(), serde_json::Error>(())
//! ```

mod bounded;
mod event;
pub mod examples;
mod executor;
mod json;
mod lease;
mod number;
mod object;
mod plugin;
mod problem;
mod queue;
mod request;
pub mod schema;
mod stats;
mod task;
mod timestamp;
mod token;
mod webhook;

pub use bounded::TOO_MANY;
pub use event::{TaskEvent, TaskEventType};
pub use executor::{
    Executor, ExecutorChange, ExecutorKind, ExecutorList, ExecutorRequest, Granted, Grants, Hold,
};
pub use json::Json;
pub use lease::{
    ErrorReport, FinishAnswer, FinishAnswers, FinishBatch, FinishEntry, FinishRequest, Lease,
    LeaseList, LeaseRenewal, LeaseRequest, LogLevel, LogLine, LogLineRequest, LogList,
    RenewRequest,
};
pub use plugin::{Component, Plugin, PluginList, PluginTask, PluginVersion, RollbackRequest};
pub use problem::{ErrorCode, Problem};
pub use queue::{Queue, QueueChange, QueueList};
pub use request::{Backoff, TaskBatch, TaskIds, TaskRequest};
pub use stats::{EndedCounts, PruneRequest, Pruned, Stats};
pub use task::{
    Explanation, Progress, Reason, ReasonCode, Task, TaskError, TaskErrorKind, TaskList,
    TaskResult, TaskState, TaskStatus, TaskSummary,
};
pub use timestamp::Timestamp;
pub use token::{AuditEntry, AuditLog, CreatedToken, Token, TokenList, TokenRequest, TokenScope};
pub use webhook::{
    CancelData, CancelMessage, CancelType, ExecuteData, ExecuteMessage, ExecuteType, MessageLease,
};
