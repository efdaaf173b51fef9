//! The sizes of records, as the database says them without reading the texts: both engines know the
//! length of a text that is stored apart. So room is taken before a large record is in memory.

use std::collections::HashMap;

use diesel::{dsl::sql, prelude::*, sql_types::BigInt};

use super::{
    Store,
    error::{Error, Result},
    link::{Link, on_engine},
    rows::TaskRow,
    schema::{task_inputs, task_labels},
};
use crate::memory::{COPIES, Held, Lane, Share, TASK_BYTES};

/// Bytes of all parts of a task except its row, with the room that each part takes beside its
/// texts.
const RECORD_BYTES: &str = "CAST(octet_length(task_inputs.args) + octet_length(task_inputs.kwargs) \
     + coalesce((SELECT sum(octet_length(key) + octet_length(value) + 200) FROM task_labels \
     WHERE task_labels.task_seq = task_inputs.task_seq), 0) \
     + coalesce((SELECT sum(octet_length(message) + coalesce(octet_length(traceback), 0) + 700) \
     FROM task_errors WHERE task_errors.task_seq = task_inputs.task_seq), 0) \
     + coalesce((SELECT octet_length(return_value) FROM task_results \
     WHERE task_results.task_seq = task_inputs.task_seq), 0) AS BIGINT)";

/// The bytes of the records of these tasks, by `seq`.
pub(super) fn records(link: &mut Link<'_>, seqs: &[i64]) -> Result<HashMap<i64, usize>> {
    if seqs.is_empty() {
        return Ok(HashMap::new());
    }
    let query = task_inputs::table
        .filter(task_inputs::task_seq.eq_any(seqs))
        .select((task_inputs::task_seq, sql::<BigInt>(RECORD_BYTES)));
    let sizes: Vec<(i64, i64)> = on_engine!(link, c => query.load(c))?;
    let with_row = |(seq, bytes)| (seq, usize::try_from(bytes).unwrap_or(0) + TASK_BYTES);
    Ok(sizes.into_iter().map(with_row).collect())
}

/// The bytes of the labels of tasks that have any, by `seq`.
pub(super) fn labels(link: &mut Link<'_>, seqs: &[i64]) -> Result<HashMap<i64, usize>> {
    let bytes = sql::<BigInt>("CAST(sum(octet_length(key) + octet_length(value) + 10) AS BIGINT)");
    let query = task_labels::table
        .filter(task_labels::task_seq.eq_any(seqs))
        .group_by(task_labels::task_seq)
        .select((task_labels::task_seq, bytes));
    let sizes: Vec<(i64, i64)> = on_engine!(link, c => query.load(c))?;
    Ok(sizes.into_iter().map(|(seq, bytes)| (seq, usize::try_from(bytes).unwrap_or(0))).collect())
}

/// How room in memory is taken: as usual, or urgently.
pub(super) type Take = fn(&Lane, usize) -> Option<Share>;

impl Store {
    /// Takes room for an answer that is made of `bytes` bytes.
    pub(super) fn room_for(&self, bytes: usize) -> Result<Share> {
        self.room_by(Lane::take, bytes)
    }

    fn room_by(&self, take: Take, bytes: usize) -> Result<Share> {
        take(&self.memory.requests, bytes.saturating_mul(COPIES)).ok_or(Error::NoRoom)
    }

    /// Reads the parts of a task after room was taken for them.
    pub(super) fn read_held<T>(
        &self,
        link: &mut Link<'_>,
        row: TaskRow,
        take: Take,
        read: impl FnOnce(&mut Link<'_>, TaskRow) -> Result<T>,
    ) -> Result<Held<T>> {
        let bytes = records(link, &[row.seq])?.remove(&row.seq).unwrap_or(TASK_BYTES);
        let share = self.room_by(take, bytes)?;
        Ok(Held { value: read(link, row)?, share })
    }
}
