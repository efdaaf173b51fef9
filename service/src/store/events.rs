//! The log of events. Each transaction writes its events, readers that watch tasks read them in the
//! order of `seq`, and old ones are deleted.

use std::{mem, sync::OnceLock};

use bytes::Bytes;
use diesel::prelude::*;

use super::{
    dialect::{self, bulk},
    error::Result,
    event_text,
    link::{Link, on_engine},
    rows::{TaskRow, micros, nearest_time},
    schema::{event_log, events},
    tx::Tx,
};
use crate::{
    domain::{
        Timestamp,
        event::{Change, EventPlace, EventRetention, TaskEvent},
        history::{History, Step},
    },
    memory::Share,
    metrics::Observation,
};

/// Events are added to a row until it has this many bytes.
const ROW_BYTES: usize = 16 * 1024;
/// About how many bytes a row takes beside its text.
const ROW_EXTRA_BYTES: usize = 50;
/// How many rows are read at once, and about how many bytes of them.
const PAGE_ROWS: i64 = 256;
const PAGE_BYTES: usize = 1024 * 1024;
/// How many rows one step deletes, or bytes, since a row may be large.
const TRIM_ROWS: i64 = 500;
const TRIM_BYTES: i64 = 4 * 1024 * 1024;

/// The events of the present transaction, as texts of rows.
#[derive(Default)]
pub(super) struct News {
    rows: Vec<String>,
}

impl News {
    fn push(&mut self, line: &str) {
        match self.rows.last_mut() {
            Some(row) if row.len() < ROW_BYTES => {
                row.push('\n');
                row.push_str(line);
            }
            _ => self.rows.push(line.to_owned()),
        }
    }
}

impl Tx<'_> {
    /// Notes an event of a task. The row already shows the change, and the caller has to save the
    /// row.
    pub(super) fn tell(&mut self, row: &mut TaskRow, change: &Change) -> Result<()> {
        let attempt = row.attempt();
        self.tell_of_attempt(row, attempt, change)
    }

    /// Notes an event of an attempt that the row does not count any more.
    pub(super) fn tell_of_attempt(
        &mut self,
        row: &mut TaskRow,
        attempt: u32,
        change: &Change,
    ) -> Result<()> {
        if let Some(kind) = change.step(row.stage()?) {
            History::note(&mut row.now.history, Step { kind, attempt, at: self.now });
        }
        self.news.push(&event_text::write(row, attempt, change)?);
        self.effects.observations.push(Observation::Told(change.name()));
        Ok(())
    }

    /// Writes the events, as the last statement of the transaction. Readers read events in the
    /// order of `seq`, and so never see an effect before its cause.
    pub(super) fn store_news(&mut self) -> Result<()> {
        let news = mem::take(&mut self.news);
        if news.rows.is_empty() {
            return Ok(());
        }
        self.effects.news = true;
        let bytes = |row: &String| i64::try_from(row.len() + ROW_EXTRA_BYTES).unwrap_or(i64::MAX);
        let rows: Vec<(i64, &str)> =
            news.rows.iter().map(|row| (bytes(row), row.as_str())).collect();
        let written: i64 = rows.iter().map(|(bytes, _)| bytes).sum();
        self.effects.news_bytes = u64::try_from(written).unwrap_or(0);
        bulk::insert_events(&mut self.link, micros(self.now), &rows)?;
        Ok(())
    }
}

/// Events that are read together.
#[derive(Debug)]
pub struct EventChunk {
    /// In their order, each with the place after it.
    pub events: Vec<(EventPlace, TaskEvent)>,
    /// The chunk holds all events up to this `seq`.
    pub until: i64,
    /// Bytes of the events' texts.
    pub bytes: usize,
    /// The text that readers are sent, and where each event ends in it. The first reader makes it
    /// for all.
    pub shown: OnceLock<(Bytes, Vec<usize>)>,
    /// Room in memory, if only one reader has the chunk.
    pub share: Option<Share>,
}

#[derive(Queryable)]
struct EventRow {
    seq: i64,
    at: i64,
    text: String,
}

/// The events between two seqs, up to a bound, and the seqs of their rows.
pub(super) struct Page {
    pub(super) chunk: EventChunk,
    pub(super) seqs: Vec<i64>,
    /// There may be more rows.
    pub(super) full: bool,
}

/// Reads the rows after `after`, up to `until`. Before that, `room` takes room for their bytes.
pub(super) fn page(
    link: &mut Link<'_>,
    after: i64,
    until: i64,
    room: impl FnOnce(usize) -> Result<Option<Share>>,
) -> Result<Page> {
    let between = events::table.filter(events::seq.gt(after)).filter(events::seq.le(until));
    let lengths = between.order(events::seq).limit(PAGE_ROWS).select((events::seq, events::bytes));
    let lengths: Vec<(i64, i64)> = on_engine!(link, c => lengths.load(c))?;
    let mut bytes = 0;
    let fitting = lengths.iter().take_while(|(_, length)| {
        let begun = bytes > 0;
        bytes += usize::try_from(*length).unwrap_or(0);
        !begun || bytes <= PAGE_BYTES
    });
    let fitting = fitting.count();
    let share = room(bytes)?;
    let full = fitting < lengths.len() || i64::try_from(fitting).is_ok_and(|n| n == PAGE_ROWS);
    let last = fitting.checked_sub(1).and_then(|last| lengths.get(last)).map_or(after, |row| row.0);
    let query = between.filter(events::seq.le(last)).order(events::seq).select((
        events::seq,
        events::at,
        events::lines,
    ));
    let rows: Vec<EventRow> = on_engine!(link, c => query.load(c))?;
    let shown = OnceLock::new();
    let mut page = Page {
        chunk: EventChunk { events: Vec::new(), until: after, bytes: 0, shown, share },
        seqs: rows.iter().map(|row| row.seq).collect(),
        full,
    };
    for row in rows {
        read_row(&mut page.chunk, &row);
    }
    Ok(page)
}

fn read_row(chunk: &mut EventChunk, row: &EventRow) {
    let at = nearest_time(row.at);
    let mut lines = (0..).zip(row.text.split('\n')).peekable();
    while let Some((index, line)) = lines.next() {
        let index = if lines.peek().is_some() { index } else { EventPlace::LAST };
        match event_text::read(line, at) {
            Ok(event) => chunk.events.push((EventPlace { seq: row.seq, index }, event)),
            // It may be of a later version that runs beside this one.
            Err(error) => tracing::debug!(%error, "an event that cannot be read"),
        }
    }
    chunk.until = row.seq;
    chunk.bytes += row.text.len();
}

/// The `seq` up to which events have been deleted.
pub(super) fn trimmed(link: &mut Link<'_>) -> Result<i64> {
    Ok(on_engine!(link, c => event_log::table.select(event_log::trimmed_seq).first(c))?)
}

/// The last `seq` of those that can be seen now.
pub(super) fn last(link: &mut Link<'_>) -> Result<i64> {
    let last = events::table.select(diesel::dsl::max(events::seq));
    let last: Option<i64> = on_engine!(&mut *link, c => last.first(c))?;
    Ok(last.unwrap_or(0).max(trimmed(link)?))
}

/// The `seq` up to which events are to be deleted; `None` if none are.
pub(super) fn trim_until(
    link: &mut Link<'_>,
    retention: EventRetention,
    now: Timestamp,
) -> Result<Option<i64>> {
    let cutoff = micros(now.saturating_sub(retention.age).unwrap_or(Timestamp::MIN));
    // The look begins after deleted events: their entries stay for as long as a snapshot sees them.
    let trimmed = trimmed(link)?;
    let first_young = events::table
        .filter(events::seq.gt(trimmed))
        .filter(events::at.gt(cutoff))
        .order(events::seq)
        .select(events::seq);
    let first_young: Option<i64> = on_engine!(&mut *link, c => first_young.first(c).optional())?;
    let by_age = match first_young {
        Some(seq) => seq - 1,
        None => last(link)?,
    };
    let by_bytes =
        dialect::seq_of_bytes(link, trimmed, i64::try_from(retention.bytes).unwrap_or(i64::MAX))?;
    let until = by_bytes.map_or(by_age, |seq| seq.max(by_age));
    Ok((until > trimmed).then_some(until))
}

/// Deletes some of the events up to each given `seq`, and returns for each whether there are more.
pub(super) fn trim(tx: &mut Tx<'_>, untils: &[&i64]) -> Result<Vec<bool>> {
    untils.iter().map(|until| trim_step(&mut tx.link, **until)).collect()
}

fn trim_step(link: &mut Link<'_>, until: i64) -> Result<bool> {
    let trimmed = trimmed(link)?;
    let oldest = events::table
        .filter(events::seq.gt(trimmed))
        .filter(events::seq.le(until))
        .order(events::seq)
        .limit(TRIM_ROWS)
        .select((events::seq, events::bytes));
    let oldest: Vec<(i64, i64)> = on_engine!(&mut *link, c => oldest.load(c))?;
    let mut bytes = 0;
    let enough = oldest.iter().position(|(_, row)| {
        bytes += row;
        bytes >= TRIM_BYTES
    });
    let full = i64::try_from(oldest.len()).unwrap_or(TRIM_ROWS) == TRIM_ROWS;
    let last = enough.or(full.then_some(oldest.len().saturating_sub(1)));
    let reached = last.and_then(|index| oldest.get(index)).map(|(seq, _)| *seq);
    let more = reached.is_some();
    let reached = reached.unwrap_or(until);
    let gone = diesel::delete(events::table)
        .filter(events::seq.gt(trimmed))
        .filter(events::seq.le(reached));
    let mark = diesel::update(event_log::table)
        .filter(event_log::trimmed_seq.lt(reached))
        .set(event_log::trimmed_seq.eq(reached));
    on_engine!(link, c => {
        gone.execute(c)?;
        mark.execute(c)?;
    });
    Ok(more)
}
