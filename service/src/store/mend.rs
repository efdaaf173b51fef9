//! Rows that no version of this program has written like that: they were changed by hand, or by a
//! fault of a disk.
//!
//! The unreadable part of such a row is replaced in memory by an empty value, so that only its own
//! task suffers: lists show the task, it can be cancelled and deleted, and a claim that meets it
//! ends it with the reason.

use std::{mem, str::FromStr};

use super::rows::{TaskRow, nearest_micros};
use crate::domain::{
    names::{QueueName, TaskPath},
    state::Stage,
};

/// Stands for a name that cannot be read.
const UNREADABLE: &str = "unreadable";
const ID_BYTES: usize = 16;

/// Makes the row readable, and returns the first thing that was wrong with it.
pub(super) fn mend(row: &mut TaskRow) -> Option<String> {
    let mut flaws = Flaws(None);
    if id(&mut row.id) {
        flaws.add("an id that is not sixteen bytes");
    }
    if let Some(wrong) = stage(&mut row.now.stage) {
        flaws.add(&format!("the stage {wrong}"));
    }
    if row.options().is_err() {
        flaws.add("a backoff that cannot be read");
        row.backoff = None;
    }
    if row.worker_ids().is_err() {
        flaws.add("worker_ids that cannot be read");
        "[]".clone_into(&mut row.now.worker_ids);
    }
    if name::<TaskPath>(&mut row.task_path) {
        flaws.add("a task_path that is none");
    }
    if name::<QueueName>(&mut row.queue_name) {
        flaws.add("a queue_name that is none");
    }
    mend_counts(row, &mut flaws);
    mend_times(row, &mut flaws);
    flaws.0
}

/// Gives an id its length, and returns whether it had another one.
pub(super) fn id(id: &mut Vec<u8>) -> bool {
    let is_none = id.len() != ID_BYTES;
    id.resize(ID_BYTES, 0);
    is_none
}

/// Replaces an unknown stage by FAILED, and returns the unknown number.
pub(super) fn stage(stage: &mut i16) -> Option<i16> {
    let is_none = Stage::from_number(*stage).is_none();
    is_none.then(|| mem::replace(stage, Stage::Failed as i16))
}

/// Replaces a name that is not valid, and returns whether it was not.
pub(super) fn name<T: FromStr>(name: &mut String) -> bool {
    let is_none = name.parse::<T>().is_err();
    if is_none {
        UNREADABLE.clone_into(name);
    }
    is_none
}

/// Replaces a wrong count by 0, and returns the wrong one. The largest number is wrong, too, since
/// one is going to be added to it.
pub(super) fn number(count: &mut i32) -> Option<i32> {
    (!(0..i32::MAX).contains(count)).then(|| mem::take(count))
}

/// Replaces a time that cannot be shown by the nearest one, and returns the wrong one.
pub(super) fn time(at: &mut i64) -> Option<i64> {
    let nearest = nearest_micros(*at);
    (nearest != *at).then(|| mem::replace(at, nearest))
}

/// The first flaw of a row. Others are not reported.
struct Flaws(Option<String>);

impl Flaws {
    fn add(&mut self, what: &str) {
        self.0.get_or_insert_with(|| what.to_owned());
    }
}

fn mend_counts(row: &mut TaskRow, flaws: &mut Flaws) {
    let now = &mut row.now;
    for (name, count) in [
        ("attempts", &mut now.attempts),
        ("attempts_before", &mut now.attempts_before),
        ("deliveries", &mut now.deliveries),
    ] {
        if let Some(wrong) = number(count) {
            flaws.add(&format!("{wrong} {name}"));
        }
    }
    if row.max_attempts.is_some_and(|count| count < 1) {
        flaws.add("a max_attempts below 1");
    }
}

fn mend_times(row: &mut TaskRow, flaws: &mut Flaws) {
    let now = &mut row.now;
    let running = now.stage == Stage::Running as i16;
    if running && (now.lease_renewed_at.is_none() || now.lease_expires_at.is_none()) {
        flaws.add("no lease of an attempt that runs");
        now.lease_renewed_at.get_or_insert(row.enqueued_at);
        now.lease_expires_at.get_or_insert(row.enqueued_at);
    }
    let times = [&mut row.enqueued_at, &mut now.due_at].into_iter();
    let more = [
        &mut row.expires_at,
        &mut now.lease_renewed_at,
        &mut now.lease_expires_at,
        &mut now.deadline_at,
        &mut now.started_at,
        &mut now.last_attempted_at,
        &mut now.finished_at,
        &mut now.cancel_requested_at,
    ];
    for at in times.chain(more.into_iter().flatten()) {
        if let Some(wrong) = time(at) {
            flaws.add(&format!("the time {wrong}"));
        }
    }
}
