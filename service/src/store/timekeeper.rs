//! Notices that the clock was set or that the process stood still, and mends the stored times that
//! this makes wrong.
//!
//! Leases, timeouts and pauses before retries are durations, but they are stored as times of day.
//! When the clock is set, the first transaction that sees it moves these times along; a time of day
//! that a caller has chosen stays. When no report could be stored for a while, because the process
//! or the database was away, each holder of a lease gets its full length from now on.

use std::time::Duration;

use diesel::{connection::SimpleConnection, dsl::exists, prelude::*, select, sql_query};

use super::{
    dialect::{Entered, enter},
    error::Result,
    link::{Link, on_engine},
    rows::{self, duration_micros, micros},
    schema::{events, routing, stage, tasks},
};
use crate::{
    clock::Clock,
    domain::{Timestamp, executor::LEASE_DEFAULT, limits::CANCEL_GRACE},
};

/// In microseconds: a clock that was set by less changes nothing that matters.
const STEP_MIN: i64 = 250_000;
/// How often the time is read at most, if answers are too slow to say by how much the clock was
/// set.
const READINGS_MAX: u32 = 5;
/// Commands come every second at least, from the sweep. After this time without a commit, no report
/// can have come.
const SILENCE_MIN: Duration = Duration::from_secs(5);
/// A process that wrote within this time after our last commit may have been cut off together with
/// this one.
const SLACK: Duration = Duration::from_secs(1);

/// The readings of the clocks with which a transaction begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The time of day, as it was between `asked` and `told`, which are times of the monotonic
    /// clock.
    pub(super) now: Timestamp,
    pub(super) asked: Duration,
    pub(super) told: Duration,
    /// The clock by which a standstill of this process is noticed.
    pub(super) pulse: Duration,
    /// How often stored times have been moved so far, by any process.
    pub(super) steps: i64,
}

/// An irregularity of time since the last commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// The clock was set by this number of microseconds.
    Set(i64),
    /// No report could be stored for this time.
    Silence(Duration),
    /// This is the first transaction, and the process does not know how long there was none.
    Start,
}

/// The facts about time that a process remembers between transactions.
#[derive(Debug, Default)]
pub(super) struct Timekeeper {
    known: Option<Known>,
    /// When the last transaction began that shows that reports are stored; by [`Reading::pulse`].
    heard: Option<Duration>,
    /// Whether a transaction has failed since.
    failed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    ahead: Ahead,
    now: Timestamp,
    steps: i64,
}

/// By how many microseconds the time of day is ahead of the monotonic clock: at least, and at most.
/// The slower the answer, the further these are apart.
#[derive(Clone, Copy, Debug)]
struct Ahead(i64, i64);

impl Ahead {
    fn of(reading: &Reading) -> Self {
        let now = micros(reading.now);
        Self(now - duration_micros(reading.told), now - duration_micros(reading.asked))
    }

    /// By how much it has certainly changed; 0 if it may be the same.
    fn distance(self, to: Self) -> i64 {
        (to.0 - self.1).max(0) + (to.1 - self.0).min(0)
    }

    fn narrowed(self, by: Self) -> Self {
        if self.distance(by) == 0 { Self(self.0.max(by.0), self.1.min(by.1)) } else { by }
    }

    fn middle(self) -> i64 {
        self.0.midpoint(self.1)
    }
}

impl Reading {
    /// Reads the time, and the version of executors and queues.
    fn take(link: &mut Link<'_>, clock: &dyn Clock) -> Result<(Self, i64)> {
        let asked = clock.elapsed();
        let Entered { version, steps, now } = enter(link)?;
        let now = match now {
            Some(micros) => clock.agree(rows::time(micros)?),
            None => clock.now(),
        };
        let (told, pulse) = (clock.elapsed(), clock.pulse());
        Ok((Self { now, asked, told, pulse, steps }, version))
    }
}

impl Timekeeper {
    /// Reads the time, and the version of executors and queues. If the clock was set, and the
    /// answer took too long to say by how much, reads again.
    pub(super) fn read(&self, link: &mut Link<'_>, clock: &dyn Clock) -> Result<(Reading, i64)> {
        self.until_clear(|| Reading::take(link, clock))
    }

    fn until_clear(
        &self,
        mut take: impl FnMut() -> Result<(Reading, i64)>,
    ) -> Result<(Reading, i64)> {
        let mut taken = take()?;
        for _ in 1..READINGS_MAX {
            if !self.is_vague(&taken.0) {
                break;
            }
            taken = take()?;
        }
        Ok(taken)
    }

    fn is_vague(&self, reading: &Reading) -> bool {
        let Ahead(least, most) = Ahead::of(reading);
        most - least >= STEP_MIN && matches!(self.look(reading), Some(Moved::Set(_)))
    }

    /// The irregularity that has to be mended before anything is done at this time.
    pub(super) fn look(&self, reading: &Reading) -> Option<Moved> {
        // If another process has moved the stored times since, they are right, whatever the clock
        // says.
        if let Some(known) = self.known.filter(|known| known.steps == reading.steps) {
            let ahead = Ahead::of(reading);
            if known.ahead.distance(ahead).abs() >= STEP_MIN {
                return Some(Moved::Set(ahead.middle() - known.ahead.middle()));
            }
        }
        let Some(heard) = self.heard else { return Some(Moved::Start) };
        let silence = reading.pulse.saturating_sub(heard);
        (silence >= SILENCE_MIN).then_some(Moved::Silence(silence))
    }

    /// Whether another process has moved stored times since the last commit.
    pub(super) fn moved_by_others(&self, reading: &Reading) -> bool {
        self.known.is_some_and(|known| known.steps != reading.steps)
    }

    /// A transaction that began with this reading was committed. `heard` says that it has stored
    /// reports. After a failure only such a commit ends the silence, since a database that is full
    /// may still commit a transaction that writes nothing.
    pub(super) fn committed(&mut self, reading: &Reading, heard: bool) {
        let ahead = Ahead::of(reading);
        let before = self.known.filter(|known| known.steps == reading.steps);
        let ahead = before.map_or(ahead, |known| known.ahead.narrowed(ahead));
        self.known = Some(Known { ahead, now: reading.now, steps: reading.steps });
        if heard || !self.failed {
            self.heard = Some(reading.pulse);
            self.failed = false;
        }
    }

    pub(super) fn failed(&mut self) {
        self.failed = true;
    }

    /// Mends stored times, in a transaction that does nothing else.
    pub(super) fn mend(&self, link: &mut Link<'_>, reading: &Reading, moved: Moved) -> Result<()> {
        let now = micros(reading.now);
        let slack = duration_micros(SLACK);
        match moved {
            Moved::Set(by) => {
                let since = self.known.map_or(now, |known| micros(known.now));
                // A jump ahead may also mean that this process stood still, and the monotonic clock
                // with it. Then others have written in the first half of the time that is missing.
                let stood_still = by > 0 && others_wrote(link, since + slack, since + by / 2)?;
                if !stood_still && shift(link, reading.steps, by)? {
                    let milliseconds = by / 1_000;
                    tracing::warn!(milliseconds, "the clock was set; what runs goes on regardless");
                }
            }
            Moved::Silence(silence) => {
                let since = now - duration_micros(silence);
                // Writes of others in the first half show that reports could be stored. Those in
                // the second half may be of processes that came back together with this one.
                if !others_wrote(link, since + slack, now - duration_micros(silence / 2))? {
                    let leases = renew_all(link, now, "")?;
                    tracing::warn!(?silence, leases, "nobody could report; leases begin anew");
                }
            }
            Moved::Start => {
                if !others_wrote(link, now - duration_micros(SILENCE_MIN), now)? {
                    // Only detached attempts: a process that waited for the answer to a request has
                    // died.
                    let leases = renew_all(link, now, " AND detached")?;
                    tracing::debug!(leases, "leases begin anew");
                }
            }
        }
        Ok(())
    }
}

/// Whether another process has stored anything between these times.
fn others_wrote(link: &mut Link<'_>, from: i64, until: i64) -> Result<bool> {
    let Link::Postgres(c) = link else { return Ok(false) };
    let told = events::table.filter(events::at.gt(from)).filter(events::at.le(until));
    let renewed = tasks::table
        .filter(stage::is_running())
        .filter(tasks::lease_renewed_at.gt(from))
        .filter(tasks::lease_renewed_at.le(until));
    Ok(select(exists(told)).get_result(*c)? || select(exists(renewed)).get_result(*c)?)
}

/// Moves all times that stand for durations along with the clock. Returns false if another process
/// has done it; `steps` is the number that this process knows of. A scheduled task that was tried
/// before waits for a pause to end, so its time is moved. All others wait for a time of day.
fn shift(link: &mut Link<'_>, steps: i64, by: i64) -> Result<bool> {
    const PAUSED: &str = "stage = 0 AND deliveries > 0";
    // Rows are locked as everywhere: tasks by `seq`, then executors by id.
    lock_tasks(link, &format!("stage = 2 OR {PAUSED}"))?;
    if let Link::Postgres(c) = link {
        c.batch_execute(
            "SELECT count(*) FROM (SELECT FROM executors ORDER BY id FOR UPDATE) AS e",
        )?;
    }
    // Of several processes the first finds the number that it knows. The others have waited for its
    // locks, find another number, and move nothing.
    let first = diesel::update(routing::table.filter(routing::clock_steps.eq(steps))).set((
        routing::clock_steps.eq(routing::clock_steps + 1),
        // All processes have to read executors again.
        routing::version.eq(routing::version + 1),
    ));
    if on_engine!(&mut *link, c => first.execute(c))? == 0 {
        return Ok(false);
    }
    let moves = format!(
        "UPDATE tasks SET lease_renewed_at = lease_renewed_at + ({by}), \
             lease_expires_at = lease_expires_at + ({by}), deadline_at = deadline_at + ({by}), \
             cancel_requested_at = cancel_requested_at + ({by}) WHERE stage = 2; \
         UPDATE tasks SET due_at = due_at + ({by}) WHERE {PAUSED}; \
         UPDATE executors SET failed_at = failed_at + ({by}), held_until = held_until + ({by});"
    );
    on_engine!(link, c => c.batch_execute(&moves))?;
    Ok(true)
}

/// Gives leases their full length from now on, up to the attempt's deadline. A holder that could
/// not report in time gets a default lease for that, even past the deadline. An attempt that began
/// in the future, because the clock was set back meanwhile, gets its whole time again.
fn renew_all(link: &mut Link<'_>, now: i64, which: &str) -> Result<usize> {
    lock_tasks(link, &format!("stage = 2{which}"))?;
    let default = duration_micros(LEASE_DEFAULT);
    let grace = duration_micros(CANCEL_GRACE);
    let (least, greatest) = match link {
        Link::Sqlite(_) => ("min", "max"),
        Link::Postgres(_) => ("least", "greatest"),
    };
    let renewal = sql_query(format!(
        "UPDATE tasks SET lease_expires_at = CASE \
                 WHEN cancel_requested_at IS NOT NULL THEN {now} + {grace} \
                 ELSE {least}({greatest}(deadline_at, {now} + {default}), {now} + coalesce( \
                     (SELECT lease_us FROM executors WHERE id = executor_id), {default})) \
             END, \
             deadline_at = CASE WHEN last_attempted_at <= {now} THEN deadline_at \
                 ELSE {now} + deadline_at - last_attempted_at END \
         WHERE stage = 2{which}"
    ));
    Ok(on_engine!(link, c => renewal.execute(c))?)
}

/// Locks rows in the order of `seq`, as all processes do.
fn lock_tasks(link: &mut Link<'_>, which: &str) -> Result<()> {
    if let Link::Postgres(c) = link {
        c.batch_execute(&format!(
            "SELECT count(*) FROM (SELECT FROM tasks WHERE {which} ORDER BY seq FOR UPDATE) AS t"
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Moved, READINGS_MAX, Reading, Timekeeper};
    use crate::domain::Timestamp;

    /// A reading `passed` milliseconds after the beginning, with the clock set forward by `set`,
    /// and an answer that took `took`.
    fn reading(passed: u64, set: i64, took: u64) -> Reading {
        let passed = Duration::from_millis(passed);
        let now = i64::try_from(passed.as_micros()).unwrap() + set * 1_000;
        Reading {
            now: Timestamp::from_microsecond(now).unwrap(),
            asked: passed,
            told: passed + Duration::from_millis(took),
            pulse: passed,
            steps: 0,
        }
    }

    fn begun() -> Timekeeper {
        let mut keeper = Timekeeper::default();
        assert_eq!(keeper.look(&reading(0, 0, 0)), Some(Moved::Start));
        keeper.committed(&reading(0, 0, 0), true);
        keeper
    }

    #[test]
    fn a_step_either_way_is_seen_until_it_is_mended() {
        let mut keeper = begun();
        assert_eq!(keeper.look(&reading(1_000, 7_200_000, 0)), Some(Moved::Set(7_200_000_000)));
        assert_eq!(keeper.look(&reading(1_000, -60_000, 0)), Some(Moved::Set(-60_000_000)));
        let mended = Reading { steps: 1, ..reading(1_000, -60_000, 0) };
        assert_eq!(keeper.look(&mended), None);
        keeper.committed(&mended, true);
        assert_eq!(keeper.look(&mended), None);
    }

    #[test]
    fn a_step_is_measured_by_an_answer_that_was_quick() {
        let keeper = begun();
        let slow_then_quick = |set| {
            let mut took = [2_000, 0].into_iter();
            let mut take = || Ok((reading(1_000, set, took.next().unwrap()), 0));
            let (reading, _) = keeper.until_clear(&mut take).unwrap();
            (keeper.look(&reading), took.count())
        };
        let (moved, unused) = slow_then_quick(7_200_000);
        assert_eq!((moved, unused), (Some(Moved::Set(7_200_000_000)), 0));
        let (moved, unused) = slow_then_quick(0);
        assert_eq!((moved, unused), (None, 1), "a slow answer that shows no step is enough");
    }

    #[test]
    fn a_step_that_no_answer_measures_is_mended_all_the_same() {
        let (keeper, mut asked) = (begun(), 0);
        let (vague, _) = keeper
            .until_clear(|| {
                asked += 1;
                Ok((reading(1_000, 7_200_000, 2_000), 0))
            })
            .unwrap();
        assert_eq!(asked, READINGS_MAX);
        assert!(matches!(keeper.look(&vague), Some(Moved::Set(_))));
    }

    #[test]
    fn a_slow_answer_and_a_clock_that_drifts_are_no_steps() {
        let mut keeper = begun();
        // The time was read at the end of the second that the answer took, or at its beginning.
        for slow in [reading(1_000, 0, 1_000), reading(2_000, 1_000, 1_000)] {
            assert_eq!(keeper.look(&slow), None);
            keeper.committed(&slow, true);
        }
        for drift in 0..1_000 {
            let reading = reading(3_000 + u64::try_from(drift).unwrap() * 10, drift, 0);
            assert_eq!(keeper.look(&reading), None);
            keeper.committed(&reading, true);
        }
    }

    #[test]
    fn a_silence_ends_with_what_was_really_stored() {
        let mut keeper = begun();
        assert_eq!(keeper.look(&reading(4_999, 0, 0)), None);
        let late = Some(Moved::Silence(Duration::from_secs(5)));
        assert_eq!(keeper.look(&reading(5_000, 0, 0)), late);
        keeper.failed();
        // The disk is full, and this commit wrote nothing.
        keeper.committed(&reading(3_000, 0, 0), false);
        assert_eq!(keeper.look(&reading(5_000, 0, 0)), late);
        keeper.committed(&reading(5_000, 0, 0), true);
        assert_eq!(keeper.look(&reading(9_000, 0, 0)), None);
    }
}
