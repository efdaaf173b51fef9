//! Sets queues' settings, and counts the tasks in queues.

use std::collections::BTreeMap;

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, Nullable, SmallInt, Text},
};

use super::{
    error::Result,
    link::{Link, on_engine},
    registry,
    rows::{corrupt, micros, nearest_time, number},
    schema::queues,
    tx::Tx,
};
use crate::domain::{
    limits::QUEUES_SET_MAX,
    names::QueueName,
    queue::{QueueSettings, QueueState},
    state::Stage,
};

/// A change of a queue's settings. A field that is `None` leaves the value as it is.
#[derive(Clone, Debug)]
pub struct QueueChange {
    pub name: QueueName,
    pub paused: Option<bool>,
    pub concurrency: Option<Option<u32>>,
}

/// [`QUEUES_SET_MAX`] queues are paused or limited already, and no more may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyQueues;

pub(super) type SetAnswer = std::result::Result<QueueSettings, TooManyQueues>;

/// Changes settings, and returns the settings that now hold.
pub(super) fn set(tx: &mut Tx<'_>, changes: &[&QueueChange]) -> Result<Vec<SetAnswer>> {
    changes.iter().map(|change| set_one(tx, change)).collect()
}

fn set_one(tx: &mut Tx<'_>, change: &QueueChange) -> Result<SetAnswer> {
    let before = tx.registry.queue(change.name.as_str());
    let after = QueueSettings {
        paused: change.paused.unwrap_or(before.paused),
        concurrency: change.concurrency.unwrap_or(before.concurrency),
    };
    if after == before {
        return Ok(Ok(after));
    }
    if before == QueueSettings::default() && tx.registry.queues_set() >= QUEUES_SET_MAX {
        return Ok(Err(TooManyQueues));
    }
    let values = (
        queues::paused.eq(after.paused),
        queues::concurrency.eq(after.concurrency.map(number)),
        queues::updated_at.eq(micros(tx.now)),
    );
    let row = (queues::name.eq(change.name.as_str()), values);
    on_engine!(&mut tx.link, c => diesel::insert_into(queues::table)
        .values(row)
        .on_conflict(queues::name)
        .do_update()
        .set(values)
        .execute(c))?;
    let version = registry::bump(&mut tx.link)?;
    tx.registry.set_queue(change.name.as_str(), after);
    tx.registry.moved_on(version);
    tx.effects.work.everybody = true;
    Ok(Ok(after))
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = Text)]
    queue_name: String,
    #[diesel(sql_type = SmallInt)]
    stage: i16,
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    oldest: Option<i64>,
}

/// Every queue that holds live tasks or has settings, by name. With `only`, that one queue, even if
/// nothing is in it.
pub(super) fn states(link: &mut Link<'_>, only: Option<&str>) -> Result<Vec<QueueState>> {
    let mut states: BTreeMap<String, QueueState> = BTreeMap::new();
    if let Some(name) = only {
        states.insert(name.to_owned(), QueueState::new(name.to_owned()));
    }
    for (name, settings) in registry::load_queues(link)? {
        if only.is_none_or(|only| only == name) {
            states.entry(name).or_insert_with_key(|name| QueueState::new(name.clone())).settings =
                settings;
        }
    }
    for row in counts(link, only)? {
        let state =
            states.entry(row.queue_name).or_insert_with_key(|name| QueueState::new(name.clone()));
        let number = u64::try_from(row.number).unwrap_or(0);
        match Stage::from_number(row.stage) {
            Some(Stage::Scheduled) => state.scheduled = number,
            Some(Stage::Available) => {
                state.available = number;
                state.oldest_due_at = row.oldest.map(nearest_time);
            }
            Some(Stage::Running) => state.running = number,
            Some(Stage::Successful | Stage::Failed | Stage::Cancelled) | None => {
                return Err(corrupt(format!("a live task of the stage {}", row.stage)));
            }
        }
    }
    Ok(states.into_values().collect())
}

/// Each of these stages has a partial index, so that tasks that have ended are not read.
fn counts(link: &mut Link<'_>, only: Option<&str>) -> Result<Vec<CountRow>> {
    let filter = if only.is_some() { "AND queue_name = $1" } else { "" };
    let of_stage = |stage: i16| {
        format!(
            "SELECT queue_name, CAST({stage} AS SMALLINT) AS stage, count(*) AS number, \
             min(due_at) AS oldest FROM tasks WHERE stage = {stage} {filter} GROUP BY queue_name"
        )
    };
    let query = [0, 1, 2].map(of_stage).join(" UNION ALL ");
    Ok(on_engine!(link, c => match only {
        None => sql_query(query).load(c),
        Some(name) => sql_query(query).bind::<Text, _>(name).load(c),
    })?)
}
