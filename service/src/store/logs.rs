//! The log lines that executors send, bounded by lines and bytes.

use diesel::prelude::*;

use super::{
    error::Result,
    link::{Link, on_engine},
    rows::{LogRow, TaskRow, micros},
    schema::{task_log_totals, task_logs},
    tx::Tx,
};
use crate::domain::{
    Timestamp,
    attempt::{LogLevel, LogLine},
    limits::{
        LOG_BYTES_PER_TASK_MAX, LOG_LINE_BYTES_MAX, LOG_LINES_PER_TASK_MAX, cut_end, storable,
    },
};

/// A line as the executor sent it.
#[derive(Clone, Debug)]
pub struct NewLogLine {
    pub at: Option<Timestamp>,
    pub level: LogLevel,
    pub message: String,
}

/// One page of a log.
#[derive(Clone, Debug)]
pub struct LogPage {
    pub lines: Vec<LogLine>,
    /// Where to read on.
    pub next: Option<i64>,
    pub dropped: u64,
}

/// Adds lines, and returns them as they are kept.
pub(super) fn append(tx: &mut Tx<'_>, row: &TaskRow, lines: &[NewLogLine]) -> Result<Vec<LogLine>> {
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let mut bytes = 0_i64;
    let mut kept = Vec::with_capacity(lines.len());
    for line in lines {
        let message = storable(cut_end(&line.message, LOG_LINE_BYTES_MAX)).into_owned();
        let length = i32::try_from(message.len()).unwrap_or(i32::MAX);
        bytes += i64::from(length);
        let entry = LogRow {
            task_seq: row.seq,
            attempt: row.now.attempts,
            at: micros(line.at.unwrap_or(tx.now)),
            level: line.level as i16,
            bytes: length,
            message,
        };
        on_engine!(&mut tx.link, c => diesel::insert_into(task_logs::table).values(&entry).execute(c))?;
        kept.push(entry.into());
    }
    let added = i64::try_from(lines.len()).unwrap_or(i64::MAX);
    let (lines, bytes) = add_to_totals(tx, row.seq, added, bytes)?;
    drop_oldest(tx, row.seq, lines, bytes)?;
    Ok(kept)
}

fn add_to_totals(tx: &mut Tx<'_>, seq: i64, lines: i64, bytes: i64) -> Result<(i64, i64)> {
    use task_log_totals::dsl;
    let first =
        (dsl::task_seq.eq(seq), dsl::lines.eq(lines), dsl::bytes.eq(bytes), dsl::dropped.eq(0_i64));
    let more = (dsl::lines.eq(dsl::lines + lines), dsl::bytes.eq(dsl::bytes + bytes));
    Ok(on_engine!(&mut tx.link, c => diesel::insert_into(dsl::task_log_totals)
        .values(first)
        .on_conflict(dsl::task_seq)
        .do_update()
        .set(more)
        .returning((dsl::lines, dsl::bytes))
        .get_result(c))?)
}

/// Deletes from the old end until the log is within its bounds, and counts what went.
fn drop_oldest(tx: &mut Tx<'_>, seq: i64, mut lines: i64, mut bytes: i64) -> Result<()> {
    let before = lines;
    while lines > LOG_LINES_PER_TASK_MAX || bytes > LOG_BYTES_PER_TASK_MAX {
        let oldest = task_logs::table
            .filter(task_logs::task_seq.eq(seq))
            .order(task_logs::id)
            .limit((lines - LOG_LINES_PER_TASK_MAX).max(1))
            .select((task_logs::id, task_logs::bytes));
        let oldest: Vec<(i64, i32)> = on_engine!(&mut tx.link, c => oldest.load(c))?;
        let Some((last, _)) = oldest.last() else { break };
        let gone = diesel::delete(task_logs::table)
            .filter(task_logs::task_seq.eq(seq))
            .filter(task_logs::id.le(*last));
        on_engine!(&mut tx.link, c => gone.execute(c))?;
        lines -= i64::try_from(oldest.len()).unwrap_or(lines);
        bytes -= oldest.iter().map(|(_, bytes)| i64::from(*bytes)).sum::<i64>();
    }
    if lines == before {
        return Ok(());
    }
    let totals = diesel::update(task_log_totals::table.find(seq)).set((
        task_log_totals::lines.eq(lines),
        task_log_totals::bytes.eq(bytes),
        task_log_totals::dropped.eq(task_log_totals::dropped + (before - lines)),
    ));
    on_engine!(&mut tx.link, c => totals.execute(c))?;
    Ok(())
}

/// Lines with their ids, oldest first.
pub(super) struct Lines {
    pub(super) lines: Vec<(i64, LogLine)>,
    /// There are more after them.
    pub(super) more: bool,
}

/// The lines after `after`.
pub(super) fn lines(link: &mut Link<'_>, seq: i64, after: i64, limit: u32) -> Result<Lines> {
    let query = task_logs::table
        .filter(task_logs::task_seq.eq(seq))
        .filter(task_logs::id.gt(after))
        .order(task_logs::id)
        .limit(i64::from(limit) + 1);
    let mut rows: Vec<(i64, LogRow)> = on_engine!(link, c => {
        query.select((task_logs::id, LogRow::as_select())).load(c)
    })?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > wanted;
    rows.truncate(wanted);
    Ok(Lines { lines: rows.into_iter().map(|(id, row)| (id, row.into())).collect(), more })
}

/// How many lines were dropped from the old end.
pub(super) fn dropped(link: &mut Link<'_>, seq: i64) -> Result<u64> {
    let dropped = task_log_totals::table.find(seq).select(task_log_totals::dropped);
    let dropped: Option<i64> = on_engine!(link, c => dropped.first(c).optional())?;
    Ok(dropped.and_then(|dropped| u64::try_from(dropped).ok()).unwrap_or(0))
}

/// One page of the lines after `after`, oldest first.
pub(super) fn page(link: &mut Link<'_>, seq: i64, after: i64, limit: u32) -> Result<LogPage> {
    let Lines { lines, more } = lines(link, seq, after, limit)?;
    Ok(LogPage {
        next: lines.last().filter(|_| more).map(|(id, _)| *id),
        lines: lines.into_iter().map(|(_, line)| line).collect(),
        dropped: dropped(link, seq)?,
    })
}
