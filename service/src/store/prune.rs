//! Deletes tasks that ended long ago, in steps so small that no command waits long for one.

use diesel::connection::SimpleConnection;

use super::{dialect, ended, error::Result, link::Link, rows::micros, tx::Tx};
use crate::domain::{
    Timestamp,
    retention::{EndedCounts, Retention},
    state::Stage,
};

/// How many tasks one step deletes.
const STEP_ROWS: u64 = 500;
/// How many pages of an SQLite file one step gives back to the file system.
const VACUUM_PAGES: u32 = 2_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct PruneRequest {
    pub(super) retention: Retention,
}

/// The result of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub deleted: EndedCounts,
    /// There is more to delete.
    pub more: bool,
}

pub(super) fn prune(tx: &mut Tx<'_>, requests: &[&PruneRequest]) -> Result<Vec<Pruned>> {
    requests.iter().map(|request| step(tx, request.retention)).collect()
}

fn step(tx: &mut Tx<'_>, retention: Retention) -> Result<Pruned> {
    // One process prunes for all; the others need not wait for it.
    if !dialect::try_lock_prune(&mut tx.link)? {
        return Ok(Pruned::default());
    }
    let (ended, failed) = retention.cutoffs(tx.now);
    let mut left = STEP_ROWS;
    let deleted = EndedCounts {
        successful: delete(tx, Stage::Successful, ended, &mut left)?,
        cancelled: delete(tx, Stage::Cancelled, ended, &mut left)?,
        failed: delete(tx, Stage::Failed, failed, &mut left)?,
    };
    if let Link::Sqlite(c) = &mut tx.link
        && deleted.total() > 0
    {
        c.batch_execute(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    }
    Ok(Pruned { deleted, more: left == 0 })
}

/// Deletes up to `left` tasks of a stage that ended before a time, and lowers `left` by their
/// number.
fn delete(tx: &mut Tx<'_>, stage: Stage, before: Timestamp, left: &mut u64) -> Result<u64> {
    let horizon = tx.floors.find_horizon(&mut tx.link, tx.now)?;
    let floor = tx.floors.ended.entry(stage as i16).or_insert(i64::MIN);
    let first = dialect::first_ended(&mut tx.link, stage, *floor)?;
    *floor = first.map_or(horizon, |first| first.min(horizon));
    let span = (*floor, micros(before));
    if *left == 0 || span.0 > span.1 {
        return Ok(0);
    }
    let deleted = dialect::delete_ended(&mut tx.link, stage, span, *left)?;
    *left = left.saturating_sub(deleted);
    Ok(deleted)
}

/// How many tasks all steps together would delete.
pub(super) fn prunable(
    link: &mut Link<'_>,
    retention: Retention,
    now: Timestamp,
) -> Result<EndedCounts> {
    let (ended, failed) = retention.cutoffs(now);
    let by_end = ended::between(link, Timestamp::MIN, ended)?;
    let by_failure = ended::between(link, Timestamp::MIN, failed)?;
    Ok(EndedCounts { failed: by_failure.failed, ..by_end })
}
