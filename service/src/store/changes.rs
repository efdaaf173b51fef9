//! What a transaction has locked and what it is about to write.
//!
//! A row is read once, changed in memory, and written together with all others: on PostgreSQL
//! each statement is a round trip, so there is one for many rows and none for each.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    dialect::{self, bulk},
    error::{Error, Result},
    link::Link,
    mend::mend,
    rows::{ErrorRow, ResultRow, TaskRow},
};

#[derive(Default)]
pub(super) struct Changes {
    rows: BTreeMap<i64, Held>,
    seqs: HashMap<Vec<u8>, i64>,
    errors: Vec<ErrorRow>,
    results: Vec<ResultRow>,
}

/// A locked row.
struct Held {
    row: TaskRow,
    /// What it holds that cannot be read.
    flaw: Option<String>,
    /// The stage that the database has.
    stored: i16,
    changed: bool,
}

impl Changes {
    /// Reads and locks rows, by place or id, in one order everywhere, so that two processes never
    /// wait for each other.
    pub(super) fn lock(
        &mut self,
        link: &mut Link<'_>,
        seqs: &[i64],
        ids: &[Vec<u8>],
    ) -> Result<()> {
        if seqs.is_empty() && ids.is_empty() {
            return Ok(());
        }
        self.hold(dialect::lock_tasks(link, seqs, ids)?);
        Ok(())
    }

    /// Takes rows in that were locked otherwise.
    pub(super) fn hold(&mut self, rows: Vec<TaskRow>) {
        for mut row in rows {
            self.seqs.insert(row.id.clone(), row.seq);
            let stored = row.now.stage;
            let flaw = mend(&mut row);
            self.rows.entry(row.seq).or_insert(Held { row, flaw, stored, changed: false });
        }
    }

    /// What the row at a place holds that cannot be read.
    pub(super) fn flaw(&self, seq: i64) -> Option<&str> {
        self.rows.get(&seq)?.flaw.as_deref()
    }

    /// The row at a place, as this transaction has left it so far.
    pub(super) fn row(&self, seq: i64) -> Option<TaskRow> {
        self.rows.get(&seq).map(|held| held.row.clone())
    }

    pub(super) fn row_by_id(&self, id: &[u8]) -> Option<TaskRow> {
        self.seqs.get(id).and_then(|seq| self.row(*seq))
    }

    /// Takes a changed row back; it is written by the next flush.
    pub(super) fn save(&mut self, row: TaskRow) -> Result<()> {
        let held = self
            .rows
            .get_mut(&row.seq)
            .ok_or_else(|| Error::Corrupt(format!("task {} changed without a lock", row.seq)))?;
        held.row = row;
        held.changed = true;
        Ok(())
    }

    /// The row was deleted.
    pub(super) fn forget(&mut self, seq: i64) {
        if let Some(held) = self.rows.remove(&seq) {
            self.seqs.remove(&held.row.id);
        }
    }

    pub(super) fn record_error(&mut self, error: ErrorRow) {
        self.errors.push(error);
    }

    pub(super) fn record_result(&mut self, result: ResultRow) {
        self.results.push(result);
    }

    /// What the next flush writes.
    pub(super) fn changed(&self) -> impl Iterator<Item = &TaskRow> {
        self.rows.values().filter(|held| held.changed).map(|held| &held.row)
    }

    /// Writes what changed since the last time.
    pub(super) fn flush(&mut self, link: &mut Link<'_>) -> Result<()> {
        let changed: Vec<&mut Held> = self.rows.values_mut().filter(|held| held.changed).collect();
        let rows: Vec<(&TaskRow, i16)> =
            changed.iter().map(|held| (&held.row, held.stored)).collect();
        if bulk::save_tasks(link, &rows)? != rows.len() {
            return Err(Error::Corrupt("a task that changed while it was locked".to_owned()));
        }
        for held in changed {
            held.stored = held.row.now.stage;
            held.changed = false;
        }
        self.store_errors(link)?;
        bulk::insert_results(link, &std::mem::take(&mut self.results))
    }

    /// Adds errors, and leaves the oldest out where a task has too many.
    fn store_errors(&mut self, link: &mut Link<'_>) -> Result<()> {
        let errors = std::mem::take(&mut self.errors);
        bulk::insert_errors(link, &errors)?;
        let tasks: BTreeSet<i64> = errors.iter().map(|error| error.task_seq).collect();
        for (seq, dropped) in bulk::drop_old_errors(link, &tasks)? {
            if let Some(held) = self.rows.get_mut(&seq) {
                held.row.errors_dropped = dropped;
            }
        }
        Ok(())
    }
}
