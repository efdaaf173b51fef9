//! Tells the other processes on one PostgreSQL about the effects of a commit, and hears of theirs.
//!
//! This saves time and no more: if a message gets lost, the sweep and waiting requests find the
//! change a second later. It has a connection of its own, so that no commit waits for it.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use diesel::{
    pg::PgConnection,
    prelude::*,
    sql_query,
    sql_types::{Array, Text},
};
use uuid::Uuid;

use super::{
    error::{Error, Result},
    guard,
    health::Reconnect,
    link::Connection,
    signals::{CancelSignal, Effects, Signals, Work},
};
use crate::{
    domain::{executor::ExecutorId, lease::LeaseToken, task::TaskId},
    entropy::Entropy,
};

/// How many effects may wait to be sent. Further ones are dropped, and the others find them by
/// looking.
pub(super) const OUTBOX_MAX: usize = 1_024;
/// How often to look for messages: libpq has no way to wait for them that needs no unsafe code. A
/// look that finds nothing is one system call.
const LOOK: Duration = Duration::from_millis(10);
/// How often others are told of events at most: their readers take many events at once anyway.
const NEWS_PACE: Duration = Duration::from_millis(50);
/// How often, at least, the connection shows that it is alive. If it only listened, its loss would
/// not be noticed.
const PROOF: Duration = Duration::from_secs(3);
/// How many ids one message has at most: PostgreSQL takes messages of 8,000 bytes.
const IDS_MAX: usize = 150;
const CHANNEL: &str = "nightshift";

pub(super) struct Listener {
    pub(super) connect: Box<dyn Fn() -> anyhow::Result<Connection> + Send>,
    pub(super) entropy: Arc<Entropy>,
    pub(super) signals: Arc<Signals>,
    /// Closed when the writer is gone.
    pub(super) outbox: Receiver<Effects>,
    /// The name of this process in messages, by which it knows its own.
    pub(super) name: String,
}

impl Listener {
    /// Works until the writer is gone.
    pub(super) fn run(self) {
        let mut reconnect = Reconnect::default();
        let mut connection: Option<PgConnection> = None;
        let mut proved = Instant::now();
        let mut waiting = Waiting::default();
        loop {
            match self.outbox.recv_timeout(LOOK) {
                Ok(effects) => waiting.add(&effects),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(effects) = self.outbox.try_recv() {
                waiting.add(&effects);
            }
            let open = match connection.take() {
                Some(open) => Ok(open),
                None => self.listen(&mut reconnect),
            };
            let Ok(mut open) = open else {
                // Messages that cannot be sent now are dropped: the others find the changes by
                // looking.
                waiting = Waiting::default();
                continue;
            };
            match self.exchange(&mut open, waiting.take(), &mut proved) {
                Ok(()) => connection = Some(open),
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "listening ended");
                }
            }
        }
    }

    fn listen(&self, reconnect: &mut Reconnect) -> Result<PgConnection> {
        match reconnect.attempt(&self.entropy, &self.connect)? {
            Connection::Postgres(mut c) => {
                // These are messages only, and it does no harm if they are lost.
                sql_query("SET synchronous_commit = off").execute(&mut c)?;
                sql_query(format!("LISTEN {CHANNEL}")).execute(&mut c)?;
                // After LISTEN, so that no message is missed from here on. Earlier ones were not
                // heard, so everything that waits has to look.
                self.signals.tell_everybody();
                Ok(c)
            }
            Connection::Sqlite(_) => Err(Error::Closed),
        }
    }

    fn exchange(
        &self,
        c: &mut PgConnection,
        messages: Vec<String>,
        proved: &mut Instant,
    ) -> Result<()> {
        if messages.is_empty() {
            if proved.elapsed() >= PROOF {
                *proved = Instant::now();
                guard::prove(c)?;
            }
        } else {
            *proved = Instant::now();
            let said: Vec<String> =
                messages.into_iter().map(|message| format!("{} {message}", self.name)).collect();
            sql_query(format!("SELECT pg_notify('{CHANNEL}', said) FROM UNNEST($1) AS said"))
                .bind::<Array<Text>, _>(said)
                .execute(c)?;
        }
        let heard: Vec<_> = c.notifications_iter().collect::<QueryResult<_>>()?;
        for notification in heard {
            match notification.payload.split_once(' ') {
                Some((name, message)) if name != self.name => hear(&self.signals, message),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Messages that have yet to be sent.
#[derive(Default)]
struct Waiting {
    messages: Vec<String>,
    news: bool,
    news_said: Option<Instant>,
}

impl Waiting {
    fn add(&mut self, effects: &Effects) {
        self.messages.extend(messages(effects));
        self.news |= effects.news;
    }

    /// Takes out the messages to be sent now, each of them once.
    fn take(&mut self) -> Vec<String> {
        if self.news && self.news_said.is_none_or(|said| said.elapsed() >= NEWS_PACE) {
            self.messages.push("news".to_owned());
            self.news = false;
            self.news_said = Some(Instant::now());
        }
        self.messages.sort();
        self.messages.dedup();
        std::mem::take(&mut self.messages)
    }
}

/// The messages for these effects: a word for the kind, then its objects.
fn messages(effects: &Effects) -> Vec<String> {
    let Effects { work, finished, cancels, .. } = effects;
    let mut messages = Vec::new();
    if work.everybody {
        messages.push("everybody".to_owned());
    } else {
        if work.dispatcher {
            messages.push("dispatcher".to_owned());
        }
        let workers = work.workers.iter().map(|(id, tasks)| format!("{}:{tasks}", id.0));
        push_chunks(&mut messages, "workers", &workers.collect::<Vec<_>>());
    }
    let finished = finished.iter().map(|id| id.0.simple().to_string());
    push_chunks(&mut messages, "finished", &finished.collect::<Vec<_>>());
    let cancels = cancels.iter().map(|cancel| cancel.token.to_string());
    push_chunks(&mut messages, "cancels", &cancels.collect::<Vec<_>>());
    messages
}

fn push_chunks(messages: &mut Vec<String>, kind: &str, objects: &[String]) {
    for chunk in objects.chunks(IDS_MAX) {
        messages.push(format!("{kind} {}", chunk.join(" ")));
    }
}

/// Takes in a message of another process. One that this version cannot read is ignored.
fn hear(signals: &Signals, message: &str) {
    let mut words = message.split(' ');
    match words.next() {
        Some("everybody") => {
            signals.tell_work(&Work { everybody: true, ..Work::default() });
        }
        Some("dispatcher") => {
            signals.tell_work(&Work { dispatcher: true, ..Work::default() });
        }
        Some("workers") => {
            let workers = words.filter_map(|word| {
                let (id, tasks) = word.split_once(':')?;
                Some((ExecutorId(id.parse().ok()?), tasks.parse().ok()?))
            });
            signals.tell_work(&Work { workers: workers.collect(), ..Work::default() });
        }
        Some("finished") => {
            let ids = words.filter_map(|word| Uuid::try_parse(word).ok().map(TaskId));
            signals.tell_waiting(&ids.collect::<Vec<_>>());
        }
        Some("news") => signals.tell_news(),
        Some("cancels") => {
            for token in words.filter_map(|word| word.parse::<LeaseToken>().ok()) {
                signals.tell_cancel(CancelSignal { token, callee: None });
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{Effects, ExecutorId, TaskId, Uuid, Work, messages};

    #[test]
    fn messages_fit_into_what_postgresql_takes() {
        let effects = Effects {
            work: Work {
                dispatcher: true,
                workers: (0..1_000).map(|id| (ExecutorId(i64::MAX - id), u32::MAX)).collect(),
                everybody: false,
            },
            finished: (0..1_000).map(|id| TaskId(Uuid::from_u128(id))).collect(),
            ..Effects::default()
        };
        let messages = messages(&effects);
        assert_eq!(messages.len(), 1 + 7 + 7);
        assert!(messages.iter().all(|message| message.len() < 7_900));
    }
}
