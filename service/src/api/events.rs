//! `GET /events` and `GET /tasks/{id}/events`: streams of events, of all tasks or of one. The id of
//! an event is a position from which a reader that reconnects goes on.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse, get,
    web::{Bytes, BytesMut, Path},
};
use nightshift_openapi as wire;
use nightshift_openapi::{
    ErrorCode,
    examples::{EVENT_ID, TASK_EVENT_ID},
};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;

use super::{
    Error, Shared,
    convert::event_type,
    event_stream::{self, Next, RESET, Source},
    extract::Query,
    params::{AllSeen, OfTask, TaskSeen},
    responses::{NoSuchTask, Paged, Problems, Written},
    tasks::{not_found, task_id},
};
use crate::{
    access::Caller,
    domain::event::{EventPlace, TaskEvent, TaskPlace},
    store::{self, EventChunk, EventReader, Heard, TaskNews, TaskWatch},
};

/// Where to read on from.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TaskEventsQuery {
    /// The `id` of the last event that was seen, where a header cannot be set.
    #[param(pattern = r"^[0-9]{1,18}\.[0-9]{1,18}\.[0-9]{1,10}$", example = json!(TASK_EVENT_ID))]
    last_event_id: Option<String>,
}

/// Which events to send.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Only events of this type.
    #[serde(rename = "type")]
    #[param(example = "task.finished")]
    event_type: Option<wire::TaskEventType>,
    /// Only events of tasks of this queue.
    #[param(example = json!(wire::examples::QUEUE))]
    queue_name: Option<String>,
    /// Only events of tasks with this path, or, ending with `*`, with this prefix.
    #[param(example = "myapp.tasks.*")]
    task_path: Option<String>,
    /// The `id` of the last event that was seen, where a header cannot be set.
    #[param(pattern = r"^[0-9]{1,18}(\.[0-9]{1,9})?$", example = json!(EVENT_ID))]
    last_event_id: Option<String>,
}

impl EventsQuery {
    /// Whether the reader wants this event.
    fn lets_through(&self, event: &TaskEvent) -> bool {
        let path = |wanted: &String| match wanted.strip_suffix('*') {
            Some(prefix) => event.task_path.starts_with(prefix),
            None => event.task_path == *wanted,
        };
        self.queue_name.as_ref().is_none_or(|wanted| event.queue_name == *wanted)
            && self.task_path.as_ref().is_none_or(path)
            && self.event_type.is_none_or(|wanted| event_type(event) == wanted)
    }
}

/// The id of the last event that the reader has seen: in the header that browsers send when they
/// reconnect, or else in the parameter.
pub(super) fn last_event_id(
    request: &HttpRequest,
    parameter: Option<String>,
) -> Result<Option<String>, Error> {
    let Some(header) = request.headers().get("last-event-id") else {
        return Ok(parameter);
    };
    let text = header.to_str().map_err(|_not_ascii| unknown_id())?;
    Ok(if text.is_empty() { parameter } else { Some(text.to_owned()) })
}

/// The position to read from. The error names the query parameter if the id came from there.
fn place<P>(
    request: &HttpRequest,
    parameter: Option<String>,
    read: impl FnOnce(&str) -> Result<P, Error>,
) -> Result<Option<P>, Error> {
    let in_query = parameter.clone();
    let id = last_event_id(request, parameter)?;
    let place = id.as_deref().map(read).transpose();
    place.map_err(|error| if id == in_query { error.about("last_event_id") } else { error })
}

fn unknown_id() -> Error {
    Error::new(ErrorCode::InvalidCursor, "Last-Event-ID is not the id of an event")
}

/// Takes one of the permits for readers of events.
fn permit(state: &Shared) -> Result<OwnedSemaphorePermit, Error> {
    let full = |_| Error::new(ErrorCode::Overloaded, "too many readers of events at once");
    state.event_streams.clone().try_acquire_owned().map_err(full)
}

/// Watch what happens to all tasks
///
/// Server-Sent Events, from now on: of every task, whichever process of the service changed it,
/// each once and an effect never before its cause. A reader that comes back with `Last-Event-ID`
/// goes on where it was; if that is too long ago, an event `reset` without an id says that some
/// are gone. A comment every 15 s shows that the connection is alive. Events are kept for
/// `events_retention_seconds` (an hour), but no more than `events_bytes_max` (64 MiB) of them.
#[utoipa::path(
    tag = "events",
    operation_id = "get_events",
    security((), ("bearer" = ["read"])),
    params(AllSeen, EventsQuery),
    responses(
        (status = 200, description = "Events without end; the data of each is a TaskEvent",
            body = String, content_type = "text/event-stream",
            example = json!(wire::examples::event_stream(EVENT_ID))),
        Problems<(Paged, Written)>,
    )
)]
#[get("/events")]
pub(super) async fn get_events(
    state: Shared,
    caller: Caller,
    request: HttpRequest,
    query: Query<EventsQuery>,
) -> Result<HttpResponse, Error> {
    let mut query = query.0;
    query.queue_name = caller.hold_to_queue(query.queue_name)?;
    let place = place(&request, query.last_event_id.take(), event_place)?;
    let permit = permit(&state)?;
    let reader = state.store.events(place).await?;
    Ok(event_stream::respond(state, caller, permit, AllTasks { reader, query, sent: None }))
}

/// Watch one task
///
/// Server-Sent Events, from the task's enqueuing on, whether that was a moment or days ago, until
/// the task has ended; then the stream ends. Of its progress only the latest is told, everything
/// else once and in order. A reader that comes back with `Last-Event-ID` goes on where it was;
/// where nothing more will come, the answer is 204, at which browsers stop coming back.
#[utoipa::path(
    tag = "events",
    operation_id = "get_task_events",
    security((), ("bearer" = ["read"])),
    params(OfTask, TaskSeen, TaskEventsQuery),
    responses(
        (status = 200, description = "Events until the task's end; the data of each is a TaskEvent",
            body = String, content_type = "text/event-stream",
            example = json!(wire::examples::event_stream(TASK_EVENT_ID))),
        (status = 204, description = "The task has ended, and all of it was seen"),
        Problems<(Paged, NoSuchTask, Written)>,
    )
)]
#[get("/tasks/{id}/events")]
pub(super) async fn get_task_events(
    state: Shared,
    caller: Caller,
    request: HttpRequest,
    id: Path<String>,
    query: Query<TaskEventsQuery>,
) -> Result<HttpResponse, Error> {
    let id = caller.task(&state, task_id(&id)?).await?;
    let place = place(&request, query.0.last_event_id, task_place)?.unwrap_or_default();
    let permit = permit(&state)?;
    let watch = state.store.watch(id);
    let news = state.store.task_news(id, place).await?.ok_or_else(not_found)?;
    if news.ended && news.events.is_empty() && !news.missed {
        return Ok(HttpResponse::NoContent().finish());
    }
    let source = OneTask { watch, place, ended: false, first: Some(news) };
    Ok(event_stream::respond(state, caller, permit, source))
}

struct AllTasks {
    reader: EventReader,
    query: EventsQuery,
    /// The chunk that is being sent. It is kept until the reader has taken it, together with its
    /// room in memory.
    sent: Option<Arc<EventChunk>>,
}

impl Source for AllTasks {
    async fn next(&mut self) -> Next {
        loop {
            match self.reader.next().await {
                Ok(Heard::Missed) => return Some(vec![Bytes::from_static(RESET)]),
                Ok(Heard::Events { chunk, skip }) => {
                    let pieces = self.pieces(&chunk, skip);
                    self.sent = Some(chunk);
                    if !pieces.is_empty() {
                        return Some(pieces);
                    }
                }
                Err(error) => return cut_off(&error),
            }
        }
    }
}

impl AllTasks {
    fn pieces(&self, chunk: &EventChunk, skip: usize) -> Vec<Bytes> {
        let (text, ends) = chunk.shown.get_or_init(|| shown(chunk));
        let starts = std::iter::once(&0).chain(ends);
        let all = chunk.events.iter().zip(starts.zip(ends)).skip(skip);
        let wanted = all.filter(|((_, event), _)| self.query.lets_through(event));
        event_stream::pieces(text, wanted.map(|(_, (start, end))| *start..*end))
    }
}

/// Ends the stream after an error. Readers reconnect by themselves.
fn cut_off(error: &store::Error) -> Next {
    tracing::debug!(error = error as &dyn std::error::Error, "a stream of events ends");
    None
}

/// The events of a chunk as text, and where each of them ends.
fn shown(chunk: &EventChunk) -> (Bytes, Vec<usize>) {
    let mut text = BytesMut::new();
    let mut ends = Vec::with_capacity(chunk.events.len());
    for (place, event) in &chunk.events {
        event_stream::write(&event_id(*place), event, &mut text);
        ends.push(text.len());
    }
    (text.freeze(), ends)
}

struct OneTask {
    watch: TaskWatch,
    place: TaskPlace,
    ended: bool,
    /// The events that were read to decide whether there is a stream at all.
    first: Option<TaskNews>,
}

impl Source for OneTask {
    async fn next(&mut self) -> Next {
        if let Some(news) = self.first.take() {
            return Some(self.tell(&news));
        }
        if self.ended {
            return None;
        }
        match self.watch.next(self.place).await {
            Ok(news) => news.map(|news| self.tell(&news)),
            Err(error) => cut_off(&error),
        }
    }
}

impl OneTask {
    fn tell(&mut self, news: &TaskNews) -> Vec<Bytes> {
        let mut text = BytesMut::new();
        let mut pieces = Vec::new();
        if news.missed {
            pieces.push(Bytes::from_static(RESET));
        }
        for (place, event) in &news.events {
            event_stream::write(&task_event_id(*place), event, &mut text);
            pieces.push(text.split().freeze());
            self.place = *place;
        }
        self.ended = news.ended;
        pieces
    }
}

/// The id of an event: its position, as numbers with dots between them.
pub(super) fn event_id(place: EventPlace) -> String {
    if place.index == EventPlace::LAST {
        return place.seq.to_string();
    }
    format!("{}.{}", place.seq, place.index)
}

pub(super) fn event_place(id: &str) -> Result<EventPlace, Error> {
    let (seq, index) = match id.split_once('.') {
        Some((seq, index)) => (seq, Some(index)),
        None => (id, None),
    };
    Ok(EventPlace {
        seq: i64::try_from(number(seq)?).map_err(|_too_large| unknown_id())?,
        index: match index {
            Some(index) => u32::try_from(number(index)?).map_err(|_too_large| unknown_id())?,
            None => EventPlace::LAST,
        },
    })
}

pub(super) fn task_event_id(place: TaskPlace) -> String {
    format!("{}.{}.{}", place.steps, place.log, place.progress)
}

pub(super) fn task_place(id: &str) -> Result<TaskPlace, Error> {
    let [steps, log, progress] = id
        .split('.')
        .map(number)
        .collect::<Result<Vec<u64>, Error>>()?
        .try_into()
        .map_err(|_other_length| unknown_id())?;
    Ok(TaskPlace {
        steps,
        log: i64::try_from(log).map_err(|_too_large| unknown_id())?,
        // A number that is too large names no progress, so none was seen.
        progress: u32::try_from(progress).unwrap_or(0),
    })
}

/// Reads digits only, since an id has no sign.
fn number(text: &str) -> Result<u64, Error> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(unknown_id)
}
