//! Deletes tasks that ended long ago, in steps so small that nobody waits for one.

use diesel::connection::SimpleConnection;

use super::{dialect, ended, error::Result, link::Link, rows::micros, tx::Tx};
use crate::domain::{
    Timestamp,
    retention::{EndedCounts, Retention},
    state::Stage,
};

/// Tasks deleted by one step.
const STEP_ROWS: u64 = 500;
/// Pages of an SQLite file given back to the file system by one step.
const VACUUM_PAGES: u32 = 2_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct PruneRequest {
    pub(super) retention: Retention,
}

/// What one step has done.
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
    // Of several processes one does it; the others need not wait.
    if !dialect::try_lock_prune(&mut tx.link)? {
        return Ok(Pruned::default());
    }
    let (ended, failed) = retention.cutoffs(tx.now);
    let mut left = STEP_ROWS;
    let mut delete = |stage, before| -> Result<u64> {
        let deleted = dialect::delete_ended(&mut tx.link, stage, micros(before), left)?;
        left = left.saturating_sub(deleted);
        Ok(deleted)
    };
    let deleted = EndedCounts {
        successful: delete(Stage::Successful, ended)?,
        cancelled: delete(Stage::Cancelled, ended)?,
        failed: delete(Stage::Failed, failed)?,
    };
    if let Link::Sqlite(c) = &mut tx.link
        && deleted.total() > 0
    {
        c.batch_execute(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    }
    Ok(Pruned { deleted, more: left == 0 })
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
