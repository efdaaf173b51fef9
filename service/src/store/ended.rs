//! Counts tasks that have ended.

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, SmallInt},
};

use super::{
    error::Result,
    link::{Link, on_engine},
    rows::micros,
};
use crate::domain::{Timestamp, retention::EndedCounts, state::Stage};

/// Each stage has a part of an index for itself, so that a short span costs little.
const COUNT: &str = "SELECT stage, count(*) AS number FROM tasks WHERE stage IN (3, 4, 5) \
     AND finished_at > $1 AND finished_at <= $2 GROUP BY stage";

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = SmallInt)]
    stage: i16,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// How many tasks ended after `after`, up to and including `until`.
pub(super) fn between(
    link: &mut Link<'_>,
    after: Timestamp,
    until: Timestamp,
) -> Result<EndedCounts> {
    let query = sql_query(COUNT).bind::<BigInt, _>(micros(after)).bind::<BigInt, _>(micros(until));
    let rows: Vec<CountRow> = on_engine!(link, c => query.load(c))?;
    let count = |stage: Stage| {
        let row = rows.iter().find(|row| row.stage == stage as i16);
        row.and_then(|row| u64::try_from(row.number).ok()).unwrap_or(0)
    };
    Ok(EndedCounts {
        successful: count(Stage::Successful),
        failed: count(Stage::Failed),
        cancelled: count(Stage::Cancelled),
    })
}

#[cfg(test)]
mod tests {
    use super::COUNT;
    use crate::store::dialect::tests::plan;

    #[test]
    fn counting_looks_into_the_index_only() {
        let plan = plan(COUNT);
        let search = "SEARCH tasks USING COVERING INDEX tasks_ended (stage=? AND finished_at>? AND finished_at<?)";
        assert_eq!(plan, [search]);
    }
}
