//! Entry points for `fuzz/`: the functions by which handlers read input of clients, without a
//! store.

use std::time::Duration;

use actix_web::{HttpRequest, web::Bytes};
use nightshift_openapi as wire;

use super::{Error, batch, convert, cursor, events, extract, headers};
use crate::domain::{
    event::{EventPlace, TaskPlace},
    task::{Content, Task},
};

/// Parses the body of `POST /tasks`.
pub fn task(body: &[u8]) -> Result<wire::TaskRequest, Error> {
    extract::parse(body)
}

/// Parses the body of `POST /tasks/batch` with one task in each line.
pub fn lines(body: &[u8]) -> Result<Vec<wire::TaskRequest>, Error> {
    batch::lines(&Bytes::copy_from_slice(body))
}

/// Parses the body of `POST /tasks/batch` as JSON.
pub fn array(body: &[u8]) -> Result<Vec<wire::TaskRequest>, Error> {
    batch::array(&Bytes::copy_from_slice(body))
}

/// Checks a task.
pub fn content(request: wire::TaskRequest) -> Result<Content, Error> {
    convert::content(request)
}

/// Checks a task of a batch.
pub fn content_at(index: usize, request: wire::TaskRequest) -> Result<Content, Error> {
    content(request).map_err(|error| error.below(&batch::at(index)))
}

/// Renders a task's record.
pub fn record(task: Task) -> Result<wire::Task, Error> {
    convert::wire_task(task)
}

pub fn cursor_of_place(place: i64) -> String {
    cursor::from_place(place)
}

pub fn place_of_cursor(cursor: &str) -> Result<i64, Error> {
    cursor::to_place(cursor)
}

pub fn cursor_of_name(name: &str) -> String {
    cursor::from_name(name)
}

pub fn name_of_cursor(cursor: &str) -> Result<Vec<u8>, Error> {
    cursor::to_name(cursor)
}

pub fn event_id(place: EventPlace) -> String {
    events::event_id(place)
}

pub fn event_place(id: &str) -> Result<EventPlace, Error> {
    events::event_place(id)
}

pub fn task_event_id(place: TaskPlace) -> String {
    events::task_event_id(place)
}

pub fn task_place(id: &str) -> Result<TaskPlace, Error> {
    events::task_place(id)
}

pub fn last_event_id(
    request: &HttpRequest,
    parameter: Option<String>,
) -> Result<Option<String>, Error> {
    events::last_event_id(request, parameter)
}

pub fn prefer_wait(request: &HttpRequest) -> Option<Duration> {
    headers::prefer_wait(request)
}

pub fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Error> {
    headers::idempotency_key(request)
}

pub fn traceparent(request: &HttpRequest) -> Option<String> {
    headers::traceparent(request)
}
