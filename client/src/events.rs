//! What happens to tasks, as it happens.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, future, stream, stream::BoxStream};
use nightshift_openapi::{TaskEvent, TaskEventType};
use reqwest::{Method, Response, StatusCode};
use sse_stream::{Sse, SseByteStream};
use uuid::Uuid;

use crate::{Client, Error, Result, client::Call};

/// The pause before a stream that ended or broke is opened again.
const REOPEN: Duration = Duration::from_secs(1);

/// The service says something every 15 seconds: after so much silence the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Which events to read; each `None` lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only events of this type.
    pub event_type: Option<TaskEventType>,
    /// Only events of tasks of this queue.
    pub queue_name: Option<String>,
    /// Only events of tasks with this path, or, ending with `*`, with this prefix.
    pub task_path: Option<String>,
}

/// What a stream of events brings.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// Something happened.
    Event {
        /// Where to read on from: give it as `last_event_id`.
        id: String,
        /// What happened.
        event: Box<TaskEvent>,
    },
    /// Events in between are gone: look at what you follow anew.
    Reset,
}

/// One connection's events.
pub type Events = BoxStream<'static, Result<Heard>>;

impl Client {
    /// What happens to all tasks, after an event or from now on. The stream ends when the service
    /// stops or the connection breaks; [`Client::watch_events`] opens it again.
    ///
    /// # Errors
    /// `invalid_query`, `invalid_cursor`, `overloaded`.
    pub async fn get_events(
        &self,
        filter: &EventFilter,
        last_event_id: Option<&str>,
    ) -> Result<Events> {
        let call = self
            .request(Method::GET, &["events"])
            .query("type", filter.event_type)
            .query("queue_name", filter.queue_name.as_ref())
            .query("task_path", filter.task_path.as_ref());
        Ok(open(call, last_event_id).await?.unwrap_or_else(|| stream::empty().boxed()))
    }

    /// What happens to one task, after an event or from its enqueuing on. The stream ends with the
    /// task; `None` if it has ended and all of it was seen.
    ///
    /// # Errors
    /// `task_not_found`, `invalid_cursor`, `overloaded`.
    pub async fn get_task_events(
        &self,
        id: Uuid,
        last_event_id: Option<&str>,
    ) -> Result<Option<Events>> {
        let call = self.request(Method::GET, &["tasks", &id.to_string(), "events"]);
        open(call, last_event_id).await
    }

    /// Like [`Client::get_events`], opened again where it was whenever the connection is lost.
    pub fn watch_events(&self, filter: EventFilter) -> impl Stream<Item = Result<Heard>> + use<> {
        let client = self.clone();
        watch(move |last| {
            let (client, filter) = (client.clone(), filter.clone());
            async move { client.get_events(&filter, last.as_deref()).await.map(Some) }
        })
    }

    /// Like [`Client::get_task_events`], opened again where it was whenever the connection is
    /// lost. Ends with the task.
    pub fn watch_task(&self, id: Uuid) -> impl Stream<Item = Result<Heard>> + use<> {
        let client = self.clone();
        watch(move |last| {
            let client = client.clone();
            async move { client.get_task_events(id, last.as_deref()).await }
        })
    }
}

/// The bytes of an answer, until there is a silence that the service would not let be.
fn alive(answer: Response) -> impl Stream<Item = std::result::Result<Bytes, Lost>> {
    stream::try_unfold(Box::pin(answer.bytes_stream()), |mut bytes| async move {
        match tokio::time::timeout(SILENCE_MAX, bytes.try_next()).await {
            Ok(chunk) => Ok(chunk.map_err(Lost::Broken)?.map(|chunk| (chunk, bytes))),
            Err(_elapsed) => Err(Lost::Silent),
        }
    })
}

#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the connection broke")]
    Broken(#[source] reqwest::Error),
    #[error("nothing was heard for {} s", SILENCE_MAX.as_secs())]
    Silent,
}

async fn open(call: Call, last_event_id: Option<&str>) -> Result<Option<Events>> {
    let answer = call.header("Last-Event-ID", last_event_id).open().await?;
    if answer.status() == StatusCode::NO_CONTENT {
        return Ok(None);
    }
    let heard = SseByteStream::new(Box::pin(alive(answer)))
        .map_err(|error| Error::Stream(Box::new(error)))
        .try_filter_map(|part| future::ready(heard(part)));
    Ok(Some(heard.boxed()))
}

/// What an event means; nothing if it is of a kind that only later versions know.
fn heard(part: Sse) -> Result<Option<Heard>> {
    if part.event.as_deref() == Some("reset") {
        return Ok(Some(Heard::Reset));
    }
    let (Some(name), Some(id), Some(data)) = (part.event, part.id, part.data) else {
        return Ok(None);
    };
    if serde_json::from_value::<TaskEventType>(name.into()).is_err() {
        return Ok(None);
    }
    match serde_json::from_str(&data) {
        Ok(event) => Ok(Some(Heard::Event { id, event: Box::new(event) })),
        Err(error) => Err(Error::Stream(Box::new(error))),
    }
}

/// Where a watch is.
struct Watch<O> {
    open: O,
    events: Option<Events>,
    last: Option<String>,
    /// It was open before: from then on, what fails is tried again.
    opened: bool,
    over: bool,
}

fn watch<O, F>(open: O) -> impl Stream<Item = Result<Heard>>
where
    O: Fn(Option<String>) -> F,
    F: Future<Output = Result<Option<Events>>>,
{
    let start = Watch { open, events: None, last: None, opened: false, over: false };
    stream::unfold(start, |mut watch| async move {
        loop {
            if watch.over {
                return None;
            }
            match watch.step().await {
                Ok(Some(heard)) => return Some((Ok(heard), watch)),
                Ok(None) => {}
                Err(error) if watch.opened && error.is_transient() => watch.events = None,
                Err(error) => {
                    watch.over = true;
                    return Some((Err(error), watch));
                }
            }
        }
    })
}

impl<O, F> Watch<O>
where
    O: Fn(Option<String>) -> F,
    F: Future<Output = Result<Option<Events>>>,
{
    async fn step(&mut self) -> Result<Option<Heard>> {
        let Some(events) = &mut self.events else {
            if self.opened {
                tokio::time::sleep(REOPEN).await;
            }
            self.events = (self.open)(self.last.clone()).await?;
            self.opened = true;
            self.over = self.events.is_none();
            return Ok(None);
        };
        let heard = events.next().await.transpose()?;
        match &heard {
            Some(Heard::Event { id, .. }) => self.last = Some(id.clone()),
            Some(Heard::Reset) => {}
            None => self.events = None,
        }
        Ok(heard)
    }
}
