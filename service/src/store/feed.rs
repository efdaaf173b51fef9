//! Reads new events once, for all readers.
//!
//! One loop reads what was written, in the order of `seq`, and keeps the latest of it in memory.
//! Each reader takes events from there at its own pace; a reader that has fallen behind reads the
//! table. So a reader that stands still costs nothing, and a thousand readers cost the database as
//! much as one.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Store, dialect,
    error::{Error, Result},
    events::{self, EventChunk, Page},
};
use crate::domain::{event::EventPlace, task::TaskId};

/// How many bytes of events' texts are kept in memory.
const RECENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The pause between two looks: under load, the events of that time are read and sent together.
const PACE: Duration = Duration::from_millis(50);
/// Readers are woken group after group, with pauses in between: a thousand readers woken at once
/// would keep the threads from everything else until all of them were served.
const GROUPS: usize = 128;
/// The pause for each reader that was woken, and the shortest pause that a timer can measure.
const PAUSE_PER_READER: Duration = Duration::from_micros(200);
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// How often the loop looks although no signal has told it of events.
pub(super) const POLL: Duration = Duration::from_secs(1);

/// The events that the loop has read, and their readers.
pub(super) struct Feed {
    /// For each group of readers, the `seq` up to which it was told that all events can be read in
    /// order; `None` while the loop stands still.
    positions: [watch::Sender<Option<i64>>; GROUPS],
    recent: Mutex<Recent>,
    /// Watchers of one task: they keep the loop going, and hear of changes by `Signals` instead.
    followers: watch::Sender<()>,
    /// Starts the loop when a reader or a watcher comes.
    wanted: Notify,
}

#[derive(Default)]
struct Recent {
    /// All events after this `seq`, up to the position, are here.
    after: i64,
    chunks: VecDeque<Arc<EventChunk>>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, chunk: Arc<EventChunk>) {
        self.bytes += chunk.bytes;
        self.chunks.push_back(chunk);
        while self.bytes > RECENT_BYTES_MAX {
            let Some(oldest) = self.chunks.pop_front() else { break };
            self.bytes -= oldest.bytes;
            self.after = oldest.until;
        }
    }

    fn next(&self, seq: i64) -> Option<Arc<EventChunk>> {
        if seq < self.after {
            return None;
        }
        let index = self.chunks.partition_point(|chunk| chunk.until <= seq);
        self.chunks.get(index).map(Arc::clone)
    }
}

impl Feed {
    pub(super) fn new() -> Self {
        let recent = Mutex::new(Recent::default());
        let positions = std::array::from_fn(|_| watch::Sender::new(None));
        Self { positions, recent, followers: watch::Sender::new(()), wanted: Notify::new() }
    }

    fn recent<T>(&self, use_it: impl FnOnce(&mut Recent) -> T) -> T {
        use_it(&mut self.recent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a watcher that only keeps the loop going.
    pub(super) fn follow(&self) -> watch::Receiver<()> {
        let follower = self.followers.subscribe();
        self.wanted.notify_one();
        follower
    }

    /// Adds a reader to the smallest group. It keeps the loop going, and reads what the loop finds.
    fn join(&self) -> watch::Receiver<Option<i64>> {
        let group = self.positions.iter().min_by_key(|group| group.receiver_count());
        let positions = group.expect("there are groups").subscribe();
        self.wanted.notify_one();
        positions
    }

    /// The furthest position that any reader was told of: that of the first group, which is told
    /// first.
    fn told(&self) -> Option<i64> {
        let [first, ..] = &self.positions;
        *first.borrow()
    }

    fn is_read(&self) -> bool {
        self.followers.receiver_count() > 0
            || self.positions.iter().any(|group| group.receiver_count() > 0)
    }

    fn start(&self, at: i64) {
        // Before the positions, so that a reader that is told of a position finds `recent` ready.
        self.recent(|recent| *recent = Recent { after: at, ..Recent::default() });
        for group in &self.positions {
            group.send_replace(Some(at));
        }
    }

    fn stop(&self) {
        for group in &self.positions {
            group.send_replace(None);
        }
        self.recent(|recent| *recent = Recent::default());
    }

    fn push(&self, chunk: EventChunk) {
        self.recent(|recent| recent.push(Arc::new(chunk)));
    }

    /// Tells the readers that all events up to `seq` can be read.
    async fn wake(&self, seq: i64) {
        let mut pause = Duration::ZERO;
        for group in &self.positions {
            group.send_replace(Some(seq));
            let woken = u32::try_from(group.receiver_count()).unwrap_or(u32::MAX);
            pause += PAUSE_PER_READER.saturating_mul(woken);
            if pause >= PAUSE_MIN {
                tokio::time::sleep(std::mem::take(&mut pause)).await;
            }
        }
    }
}

impl Store {
    /// Keeps the feed up to date as long as there are readers.
    pub async fn follow_events(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.feed.wanted.notified() => {}
            }
            while self.feed.is_read() {
                let following = Following { store: &self, last: 0, settled: 0, gap: false };
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    ended = following.run() => if let Err(error) = ended {
                        tracing::debug!(error = &error as &dyn std::error::Error, "events stopped");
                        tokio::time::sleep(POLL).await;
                    }
                }
            }
            // A reader that has joined since the last look has notified `wanted`, so the loop goes
            // on.
            self.feed.stop();
        }
    }

    /// Waits until no event can appear before the last one, and returns the `seq` of that.
    async fn settled_seq(&self) -> Result<i64> {
        self.ask_reader(|reader| {
            reader.transaction(|mut link| {
                dialect::settle_events(&mut link)?;
                events::last(&mut link)
            })
        })
        .await
    }
}

/// How far a look has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    All,
    /// There is more, which can be read at once.
    Part,
    /// A `seq` is missing: its transaction may be about to be committed.
    UpToGap,
}

/// The state of the loop.
struct Following<'a> {
    store: &'a Store,
    /// All events up to this `seq` are in the feed.
    last: i64,
    /// No transaction can still commit an event up to this `seq`, so a `seq` that is missing there
    /// stays missing.
    settled: i64,
    /// Whether the last look ended before a gap.
    gap: bool,
}

impl Following<'_> {
    /// Returns when there are no more readers.
    async fn run(mut self) -> Result<()> {
        self.settled = self.store.settled_seq().await?;
        self.last = self.settled;
        self.store.feed.start(self.last);
        while self.store.feed.is_read() {
            let before = self.last;
            let seen = self.look().await?;
            if self.last > before {
                self.store.feed.wake(self.last).await;
            }
            if seen != Seen::Part {
                tokio::time::sleep(PACE).await;
            }
            if seen == Seen::All {
                // A signal that came during the look is kept, and ends this wait at once.
                tokio::time::timeout(POLL, self.store.signals.news()).await.ok();
            }
        }
        Ok(())
    }

    /// Reads one page, and returns how far that came.
    async fn look(&mut self) -> Result<Seen> {
        let after = self.last;
        // All readers share the page, and it is bounded, so it takes no room of its own.
        let free = |_| Ok(None);
        let page =
            self.store.read(move |mut link| events::page(&mut link, after, i64::MAX, free)).await?;
        let found = page.seqs.last().copied();
        let full = page.full;
        self.take(page);
        let behind_gap = found.is_some_and(|found| found > self.last);
        if behind_gap && self.gap {
            // The transaction that was to fill the gap has had the time of a whole look. Wait for
            // those that are still open; if the gap is there afterwards, its transaction has
            // failed.
            self.settled = self.store.settled_seq().await?;
        }
        self.gap = behind_gap;
        Ok(match (behind_gap, full) {
            (true, _) => Seen::UpToGap,
            (false, true) => Seen::Part,
            (false, false) => Seen::All,
        })
    }

    /// Puts the events that have no gap before them into the feed, and tells watchers of these
    /// tasks.
    fn take(&mut self, page: Page) {
        let mut until = self.last;
        for seq in page.seqs {
            if seq != until + 1 && seq > self.settled {
                break;
            }
            until = seq;
        }
        if until == self.last {
            return;
        }
        let mut chunk = page.chunk;
        chunk.events.retain(|(place, _)| place.seq <= until);
        chunk.until = until;
        self.last = until;
        let changed: BTreeSet<TaskId> =
            chunk.events.iter().map(|(_, event)| event.task_id).collect();
        self.store.feed.push(chunk);
        self.store.signals.tell_waiting(&changed.into_iter().collect::<Vec<_>>());
    }
}

/// The next thing for a reader.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The events after its place: the chunk without the first `skip`, which it has seen.
    Events { chunk: Arc<EventChunk>, skip: usize },
    /// Some events that it has not seen are gone.
    Missed,
}

/// A reader of all events.
pub struct EventReader {
    store: Store,
    positions: watch::Receiver<Option<i64>>,
    /// All events up to `seq` were read from the feed, and those up to `seen` were returned.
    seq: i64,
    seen: EventPlace,
    missed: bool,
}

impl EventReader {
    /// Opens a reader of the events after `place`, or of those that come from now on.
    pub(super) async fn open(store: Store, place: Option<EventPlace>) -> Result<Self> {
        let mut positions = store.feed.join();
        let position = positions.wait_for(Option::is_some);
        let position = tokio::time::timeout(super::writes::ANSWER_TIMEOUT, position)
            .await
            .map_err(|_elapsed| Error::Unavailable("the database does not answer".into()))?
            .map_err(|_closed| Error::Closed)?
            .unwrap_or_default();
        // Other groups may be told of more already.
        let position = store.feed.told().unwrap_or(position);
        let seen = place.unwrap_or(EventPlace::after(position));
        // A place beyond that is one of another database, or of one that was restored to an earlier
        // state.
        let missed = seen.seq > position;
        let seen = if missed { EventPlace::after(position) } else { seen };
        let seq = if seen.index == EventPlace::LAST { seen.seq } else { seen.seq - 1 };
        Ok(Self { store, positions, seq, seen, missed })
    }

    /// Returns the next events, once there are any.
    pub async fn next(&mut self) -> Result<Heard> {
        if std::mem::take(&mut self.missed) {
            return Ok(Heard::Missed);
        }
        loop {
            let seq = self.seq;
            let position = self.position().await?;
            let chunk = match self.store.feed.recent(|recent| recent.next(seq)) {
                Some(chunk) => chunk,
                None => match self.read_table(position).await? {
                    Some(chunk) => Arc::new(chunk),
                    None => return Ok(Heard::Missed),
                },
            };
            self.seq = chunk.until;
            let skip = chunk.events.iter().take_while(|(place, _)| *place <= self.seen).count();
            if skip < chunk.events.len() {
                return Ok(Heard::Events { chunk, skip });
            }
        }
    }

    /// The position, once it is beyond what this reader has read.
    async fn position(&mut self) -> Result<i64> {
        let seq = self.seq;
        let beyond = self.positions.wait_for(|at| at.is_some_and(|at| at > seq)).await;
        beyond.map_err(|_closed| Error::Closed)?.ok_or(Error::Closed)
    }

    /// Reads the events in the table between this reader and the position; `None` if some of it is
    /// gone.
    async fn read_table(&mut self, position: i64) -> Result<Option<EventChunk>> {
        let seq = self.seq;
        let store = self.store.clone();
        let room = move |bytes| store.room_for(bytes).map(Some);
        let (trimmed, page) = self
            .store
            .read(move |mut link| {
                Ok((events::trimmed(&mut link)?, events::page(&mut link, seq, position, room)?))
            })
            .await?;
        if seq < trimmed {
            self.seq = trimmed;
            self.seen = EventPlace::after(trimmed);
            return Ok(None);
        }
        let Page { mut chunk, full, .. } = page;
        if !full {
            chunk.until = position;
        }
        Ok(Some(chunk))
    }
}
