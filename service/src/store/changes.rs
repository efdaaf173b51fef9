//! The rows that a transaction has locked, and the changes that it has not written yet.
//!
//! A row is read once, changed in memory and written together with all others: on PostgreSQL each
//! statement is a round trip, so one statement writes many rows.

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
    /// The part of the row that cannot be read.
    flaw: Option<String>,
    /// The stage that the row had when it was read. If it has changed since, the row is not
    /// written.
    stored: i16,
    changed: bool,
}

impl Changes {
    /// Reads and locks rows, by `seq` or id. All processes lock rows in the order of `seq`, so that
    /// two of them never wait for each other.
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

    /// Takes over rows that the caller has locked by a statement of its own.
    pub(super) fn hold(&mut self, rows: Vec<TaskRow>) {
        for mut row in rows {
            self.seqs.insert(row.id.clone(), row.seq);
            let stored = row.now.stage;
            let flaw = mend(&mut row);
            // A row that is held already may have been changed in memory, so it is not replaced.
            self.rows.entry(row.seq).or_insert(Held { row, flaw, stored, changed: false });
        }
    }

    /// The part of a row that cannot be read.
    pub(super) fn flaw(&self, seq: i64) -> Option<&str> {
        self.rows.get(&seq)?.flaw.as_deref()
    }

    /// A row as this transaction has left it so far.
    pub(super) fn row(&self, seq: i64) -> Option<TaskRow> {
        self.rows.get(&seq).map(|held| held.row.clone())
    }

    pub(super) fn row_by_id(&self, id: &[u8]) -> Option<TaskRow> {
        self.seqs.get(id).and_then(|seq| self.row(*seq))
    }

    /// Takes a changed row back, for the next flush to write. Fails if the row is not locked.
    pub(super) fn save(&mut self, row: TaskRow) -> Result<()> {
        let held = self
            .rows
            .get_mut(&row.seq)
            .ok_or_else(|| Error::Corrupt(format!("task {} changed without a lock", row.seq)))?;
        held.row = row;
        held.changed = true;
        Ok(())
    }

    /// Forgets a row that was deleted.
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

    /// The rows that the next flush writes.
    pub(super) fn changed(&self) -> impl Iterator<Item = &TaskRow> {
        self.rows.values().filter(|held| held.changed).map(|held| &held.row)
    }

    /// Writes the changes since the last flush. Fails if another process has changed a row although
    /// it was locked.
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

    /// Inserts errors, and deletes the oldest errors of a task that has too many.
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
