use futures_util::StreamExt;
use nightshift_client::{Client, EventFilter, Events, Heard, types::TaskEvent};
use uuid::Uuid;

use super::soon;

/// Reads events, and remembers where it is.
pub struct Reader {
    pub events: Events,
    pub last: Option<String>,
}

impl Reader {
    pub async fn all(client: &Client, last: Option<&str>) -> Self {
        let events = client.get_events(&EventFilter::default(), last).await.unwrap();
        Self { events, last: last.map(str::to_owned) }
    }

    pub async fn task(client: &Client, id: Uuid) -> Self {
        let events = client.get_task_events(id, None).await.unwrap().unwrap();
        Self { events, last: None }
    }

    pub async fn heard(&mut self) -> Option<Heard> {
        let heard = soon("an event", self.events.next()).await.transpose().unwrap();
        if let Some(Heard::Event { id, .. }) = &heard {
            self.last = Some(id.clone());
        }
        heard
    }

    pub async fn event(&mut self) -> TaskEvent {
        match self.heard().await {
            Some(Heard::Event { event, .. }) => *event,
            other => panic!("not an event: {other:?}"),
        }
    }

    pub async fn events(&mut self, count: usize) -> Vec<TaskEvent> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.event().await);
        }
        events
    }

    /// All until the stream ends.
    pub async fn rest(&mut self) -> Vec<TaskEvent> {
        let mut events = Vec::new();
        while let Some(heard) = self.heard().await {
            let Heard::Event { event, .. } = heard else { panic!("{heard:?}") };
            events.push(*event);
        }
        events
    }
}

/// Type and status of each, on one line.
pub fn story(events: &[TaskEvent]) -> String {
    let words = events.iter().map(|event| {
        let name = event.event_type.name().strip_prefix("task.").unwrap();
        format!("{name}/{}/{}", event.status, event.attempt)
    });
    words.collect::<Vec<_>>().join(" ")
}
