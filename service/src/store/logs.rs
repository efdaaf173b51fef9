//! The log lines that executors send, bounded by lines and bytes.

use diesel::prelude::*;

use super::{
    dialect::bulk,
    error::Result,
    link::{Link, on_engine},
    rows::{LogRow, TaskRow, micros},
    schema::{task_log_totals, task_logs},
    tx::Tx,
};
use crate::domain::{
    attempt::LogLine,
    limits::{LOG_BYTES_PER_TASK_MAX, LOG_LINES_PER_TASK_MAX, PAGE_BYTES_MAX},
    log::{NewLog, NewLogLine},
};

/// About how many bytes a line takes beside its text.
const LINE_BYTES: usize = 100;
/// How many lines of a full log are looked at together to make room.
const DROPPED_AT_ONCE: i64 = 500;

/// One page of a log.
#[derive(Clone, Debug)]
pub struct LogPage {
    pub lines: Vec<LogLine>,
    /// The `after` of the next page; `None` on the last one.
    pub next: Option<i64>,
    /// How many lines were dropped from the old end.
    pub dropped: u64,
}

/// Stores lines, and returns them as they are stored.
pub(super) fn append(tx: &mut Tx<'_>, row: &TaskRow, log: &NewLog) -> Result<Vec<LogLine>> {
    if log.is_empty() {
        return Ok(Vec::new());
    }
    let entry = |line: &NewLogLine| LogRow {
        task_seq: row.seq,
        attempt: row.now.attempts,
        at: micros(line.at.unwrap_or(tx.now)),
        level: line.level as i16,
        bytes: i32::try_from(line.message.len()).unwrap_or(i32::MAX),
        message: line.message.clone(),
    };
    let entries: Vec<LogRow> = log.lines().iter().map(entry).collect();
    bulk::insert_logs(&mut tx.link, &entries)?;
    let added = Totals {
        lines: i64::try_from(entries.len()).unwrap_or(i64::MAX),
        bytes: entries.iter().map(|entry| i64::from(entry.bytes)).sum(),
        dropped: i64::try_from(log.dropped()).unwrap_or(i64::MAX),
    };
    let totals = add_to_totals(tx, row.seq, &added)?;
    drop_oldest(tx, row.seq, totals)?;
    Ok(entries.into_iter().map(LogLine::from).collect())
}

/// The size of a log.
struct Totals {
    lines: i64,
    bytes: i64,
    dropped: i64,
}

impl Totals {
    fn is_too_large(&self) -> bool {
        self.lines > LOG_LINES_PER_TASK_MAX || self.bytes > LOG_BYTES_PER_TASK_MAX
    }
}

fn add_to_totals(tx: &mut Tx<'_>, seq: i64, added: &Totals) -> Result<Totals> {
    use task_log_totals::dsl;
    let first = (
        dsl::task_seq.eq(seq),
        dsl::lines.eq(added.lines),
        dsl::bytes.eq(added.bytes),
        dsl::dropped.eq(added.dropped),
    );
    let more = (
        dsl::lines.eq(dsl::lines + added.lines),
        dsl::bytes.eq(dsl::bytes + added.bytes),
        dsl::dropped.eq(dsl::dropped + added.dropped),
    );
    let (lines, bytes, dropped) = on_engine!(&mut tx.link, c => {
        diesel::insert_into(dsl::task_log_totals)
            .values(first)
            .on_conflict(dsl::task_seq)
            .do_update()
            .set(more)
            .returning((dsl::lines, dsl::bytes, dsl::dropped))
            .get_result(c)
    })?;
    Ok(Totals { lines, bytes, dropped })
}

/// Deletes the oldest lines until the log is within its bounds, and counts them.
fn drop_oldest(tx: &mut Tx<'_>, seq: i64, mut totals: Totals) -> Result<()> {
    if !totals.is_too_large() {
        return Ok(());
    }
    while totals.is_too_large() {
        let oldest = task_logs::table
            .filter(task_logs::task_seq.eq(seq))
            .order(task_logs::id)
            .limit(DROPPED_AT_ONCE)
            .select((task_logs::id, task_logs::bytes));
        let oldest: Vec<(i64, i32)> = on_engine!(&mut tx.link, c => oldest.load(c))?;
        let mut last = None;
        for (id, bytes) in oldest {
            if !totals.is_too_large() {
                break;
            }
            totals.lines -= 1;
            totals.bytes -= i64::from(bytes);
            totals.dropped += 1;
            last = Some(id);
        }
        let Some(last) = last else { break };
        let gone = diesel::delete(task_logs::table)
            .filter(task_logs::task_seq.eq(seq))
            .filter(task_logs::id.le(last));
        on_engine!(&mut tx.link, c => gone.execute(c))?;
    }
    let change = diesel::update(task_log_totals::table.find(seq)).set((
        task_log_totals::lines.eq(totals.lines),
        task_log_totals::bytes.eq(totals.bytes),
        task_log_totals::dropped.eq(totals.dropped),
    ));
    on_engine!(&mut tx.link, c => change.execute(c))?;
    Ok(())
}

/// Lines with their ids, oldest first.
pub(super) struct Lines {
    pub(super) lines: Vec<(i64, LogLine)>,
    /// There are more lines after them.
    pub(super) more: bool,
}

/// How many lines are wanted, and about how many bytes of them.
#[derive(Clone, Copy)]
pub(super) struct Portion {
    pub(super) lines: u32,
    pub(super) bytes: usize,
}

/// Reads the lines whose id is above `after`.
pub(super) fn lines(link: &mut Link<'_>, seq: i64, after: i64, portion: Portion) -> Result<Lines> {
    let of_task =
        task_logs::table.filter(task_logs::task_seq.eq(seq)).filter(task_logs::id.gt(after));
    // The lengths are read first: the lines may be more than is to be in memory.
    let lengths = of_task
        .order(task_logs::id)
        .limit(i64::from(portion.lines) + 1)
        .select((task_logs::id, task_logs::bytes));
    let lengths: Vec<(i64, i32)> = on_engine!(link, c => lengths.load(c))?;
    let wanted = usize::try_from(portion.lines).unwrap_or(usize::MAX);
    let mut bytes = 0;
    let fitting = lengths.iter().take(wanted).take_while(|(_, length)| {
        let begun = bytes > 0;
        bytes += usize::try_from(*length).unwrap_or(0) + LINE_BYTES;
        !begun || bytes <= portion.bytes
    });
    let fitting: Vec<i64> = fitting.map(|(id, _)| *id).collect();
    let more = lengths.len() > fitting.len();
    let Some(last) = fitting.last() else {
        return Ok(Lines { lines: Vec::new(), more: false });
    };
    let query = of_task.filter(task_logs::id.le(*last)).order(task_logs::id);
    let rows: Vec<(i64, LogRow)> = on_engine!(link, c => {
        query.select((task_logs::id, LogRow::as_select())).load(c)
    })?;
    Ok(Lines { lines: rows.into_iter().map(|(id, row)| (id, row.into())).collect(), more })
}

/// How many lines were dropped from the old end.
pub(super) fn dropped(link: &mut Link<'_>, seq: i64) -> Result<u64> {
    let dropped = task_log_totals::table.find(seq).select(task_log_totals::dropped);
    let dropped: Option<i64> = on_engine!(link, c => dropped.first(c).optional())?;
    Ok(dropped.and_then(|dropped| u64::try_from(dropped).ok()).unwrap_or(0))
}

/// How many bytes a page of the log may have.
pub(super) fn page_bytes_max(link: &mut Link<'_>, seq: i64) -> Result<usize> {
    let totals =
        task_log_totals::table.find(seq).select((task_log_totals::lines, task_log_totals::bytes));
    let totals: Option<(i64, i64)> = on_engine!(link, c => totals.first(c).optional())?;
    let count = |number| usize::try_from(number).unwrap_or(0);
    let bytes = totals.map_or(0, |(lines, bytes)| count(lines) * LINE_BYTES + count(bytes));
    Ok(bytes.min(PAGE_BYTES_MAX))
}

/// Reads a page of the lines whose id is above `after`, oldest first.
pub(super) fn page(link: &mut Link<'_>, seq: i64, after: i64, limit: u32) -> Result<LogPage> {
    let portion = Portion { lines: limit, bytes: PAGE_BYTES_MAX };
    let Lines { lines, more } = lines(link, seq, after, portion)?;
    Ok(LogPage {
        next: lines.last().filter(|_| more).map(|(id, _)| *id),
        lines: lines.into_iter().map(|(_, line)| line).collect(),
        dropped: dropped(link, seq)?,
    })
}
