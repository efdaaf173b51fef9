//! Floors: where a look into an index may begin.
//!
//! On PostgreSQL a task that was claimed or has ended leaves dead entries in the indexes of waiting
//! and of running tasks. They stay for as long as any transaction may see them, and a snapshot may
//! be held open for hours. They lie where the next look would begin, and it would step over all of
//! them. So a look begins at its *floor*: an earlier look has found that nothing lies before it.
//!
//! No task may come to lie below a floor without being seen:
//!
//! - A write of this process lowers its floors ([`Floors::note`]).
//! - A write of another process lies at or after the start of its transaction. No floor is above
//!   the *horizon*: all transactions that began before that time had ended when it was found.
//! - Another process may let a task wait that was due before its transaction began (its time has
//!   come, it was handed back). It says so in the table `rewinds`, which each claim reads first.
//! - Anything else may happen as well (a process of an older version, a row changed by hand). So
//!   once in a while each look begins at the beginning, and also when the clock was set back or a
//!   transaction failed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use super::{
    cells::{Cells, Place},
    dialect::{self, Head},
    error::Result,
    link::Link,
    rows::{TaskRow, micros},
};
use crate::domain::{Timestamp, executor::ExecutorId, state::Stage};

/// How often the looks begin at the beginning.
const FULL_LOOK: Duration = Duration::from_mins(1);
/// Such full looks take at most about 1 / `FULL_LOOK_SHARE` of the time.
const FULL_LOOK_SHARE: u32 = 100;
/// How old the horizon may be: each claim steps over the tasks that were claimed since then.
const HORIZON_AGE: Duration = Duration::from_millis(100);
/// How long a process relies on what it has read of `rewinds`, at most. Rows are kept for longer.
const REWINDS_READ_MICROS: i64 = 5 * 60 * 1_000_000;
pub(super) const REWINDS_KEPT_MICROS: i64 = 2 * REWINDS_READ_MICROS;
/// How many looks are remembered for one executor. Before there are more, all are forgotten.
const SCANS_MAX: usize = 2_000;

/// The queues that a look reads in one order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scan {
    /// All but those that are looked at one by one, and these.
    Whole {
        except: Vec<String>,
    },
    Queue(String),
}

/// The floors of one process, and what they depend on.
pub(super) struct Floors {
    /// The time of the last transaction.
    last: i64,
    full_look: FullLook,
    /// All transactions that began before it have ended.
    horizon: i64,
    horizon_found: Option<Instant>,
    /// No task becomes due, no lease ends, and no waiting task expires before these times.
    pub(super) due: i64,
    pub(super) leased: i64,
    pub(super) expiring: i64,
    /// By stage: no ended task that is still there ended before this time.
    pub(super) ended: HashMap<i16, i64>,
    /// The tasks that ran at the last count, of those that have a limit.
    pub(super) running: Option<Running>,
    claims: HashMap<ExecutorId, HashMap<Scan, Cells>>,
    /// The queues that have settings, which no look at the whole reads.
    apart: Vec<String>,
    /// From when on rewinds have to be read, and which of them were read already.
    rewinds_since: Option<i64>,
    rewinds_read: HashSet<i64>,
    /// No rewind is left from before this time.
    pub(super) rewinds_trimmed: i64,
    /// Where this transaction has put tasks that were due before it began.
    early: BTreeMap<(ExecutorId, i16), i64>,
}

struct FullLook {
    begun: Instant,
    period: Duration,
    /// No transaction has been committed since the floors were forgotten.
    fresh: bool,
}

/// The tasks that ran at a count, and the time since when others may have been started.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) limited: (Vec<i64>, Vec<String>),
    pub(super) seqs: Vec<i64>,
    pub(super) since: i64,
}

impl Floors {
    pub(super) fn new() -> Self {
        Self {
            last: i64::MIN,
            full_look: FullLook { begun: Instant::now(), period: FULL_LOOK, fresh: true },
            horizon: i64::MIN,
            horizon_found: None,
            due: i64::MIN,
            leased: i64::MIN,
            expiring: i64::MIN,
            ended: HashMap::new(),
            running: None,
            claims: HashMap::new(),
            apart: Vec::new(),
            rewinds_since: None,
            rewinds_read: HashSet::new(),
            rewinds_trimmed: i64::MIN,
            early: BTreeMap::new(),
        }
    }

    /// A transaction begins. The floors are forgotten if the clock was set back or a full look is
    /// due.
    pub(super) fn enter(&mut self, now: Timestamp) {
        let now = micros(now);
        if now < self.last || self.full_look.begun.elapsed() >= self.full_look.period {
            self.forget();
        }
        self.last = now;
    }

    /// A transaction was committed; `took` is its duration. The first one after the floors were
    /// forgotten has made full looks, so its duration says how often these may be made.
    pub(super) fn committed(&mut self, took: Duration) {
        if std::mem::take(&mut self.full_look.fresh) {
            self.full_look.period = FULL_LOOK.max(took * FULL_LOOK_SHARE);
        }
    }

    /// Makes each look begin at the beginning. The state that a rolled-back transaction saw does
    /// not hold.
    pub(super) fn forget(&mut self) {
        *self = Self { last: self.last, ..Self::new() };
    }

    /// Finds the horizon: looks that follow in this transaction see all that began before it.
    pub(super) fn find_horizon(&mut self, link: &mut Link<'_>, now: Timestamp) -> Result<i64> {
        let now = micros(now);
        let age = match link {
            // No other process writes to the file.
            Link::Sqlite(_) => 0,
            Link::Postgres(_) => {
                if self.horizon_found.is_some_and(|found| found.elapsed() < HORIZON_AGE) {
                    return Ok(self.horizon);
                }
                dialect::oldest_writer_age(link)?
            }
        };
        self.horizon = self.horizon.max(now.saturating_sub(age));
        self.horizon_found = Some(Instant::now());
        Ok(self.horizon)
    }

    /// Prepares a claim: takes in the rewinds of other processes, and which queues have settings
    /// now.
    pub(super) fn prepare(
        &mut self,
        link: &mut Link<'_>,
        now: Timestamp,
        apart: Vec<String>,
    ) -> Result<()> {
        if self.apart != apart {
            self.claims.clear();
            self.apart = apart;
        }
        // Found before rewinds are read: a transaction that began before the horizon has ended, so
        // that its rewinds are seen here; those of later ones are read the next time.
        let horizon = self.find_horizon(link, now)?;
        let Some(since) = self.rewinds_since.replace(horizon) else {
            // There are no floors yet that rewinds could lower.
            return Ok(());
        };
        if micros(now).saturating_sub(since) > REWINDS_READ_MICROS {
            // Rewinds of that age may have been deleted unread.
            self.claims.clear();
            return Ok(());
        }
        let rewinds = dialect::rewinds(link, since)?;
        let read = std::mem::take(&mut self.rewinds_read);
        for rewind in rewinds {
            if !read.contains(&rewind.id) {
                let scans = self.claims.get_mut(&ExecutorId(rewind.executor_id));
                for cells in scans.into_iter().flat_map(HashMap::values_mut) {
                    cells.lower(rewind.priority, (rewind.due_at, i64::MIN));
                }
            }
            self.rewinds_read.insert(rewind.id);
        }
        Ok(())
    }

    /// All transactions that began before this time can be seen by now.
    pub(super) fn horizon(&self) -> i64 {
        self.horizon
    }

    /// The queues that have settings.
    pub(super) fn apart(&self) -> &[String] {
        &self.apart
    }

    /// From where on a look has to read each priority; `None` if there was no such look yet.
    pub(super) fn cells(&self, executor: ExecutorId, scan: &Scan) -> Option<&Cells> {
        self.claims.get(&executor)?.get(scan)
    }

    /// Takes in what a look that began at `cells` has found, in its order.
    pub(super) fn learn(
        &mut self,
        executor: ExecutorId,
        scan: Scan,
        mut cells: Cells,
        found: &[Head],
    ) {
        let firsts = found.iter().rev().map(|head| (head.priority, (head.due_at, head.seq)));
        cells.raise(&firsts.collect(), (self.horizon, i64::MIN));
        let scans = self.claims.entry(executor).or_default();
        if scans.len() >= SCANS_MAX {
            scans.clear();
        }
        scans.insert(scan, cells);
    }

    /// A row is written: lowers the floors that it lies below.
    pub(super) fn note(&mut self, row: &TaskRow, now: Timestamp) {
        let is = |stage: Stage| row.now.stage == stage as i16;
        if is(Stage::Running) {
            self.leased = self.leased.min(row.now.lease_expires_at.unwrap_or(i64::MAX));
        }
        if is(Stage::Scheduled) || is(Stage::Available) {
            self.expiring = self.expiring.min(row.expires_at.unwrap_or(i64::MAX));
        }
        if is(Stage::Scheduled) {
            self.due = self.due.min(row.now.due_at);
        }
        let Some(executor) = row.executor_id().filter(|_| is(Stage::Available)) else {
            return;
        };
        // Other processes may have floors above this place.
        if row.now.due_at < micros(now) {
            let due_at = self.early.entry((executor, row.priority)).or_insert(i64::MAX);
            *due_at = row.now.due_at.min(*due_at);
        }
        // A task that is due at the horizon or later lies above every floor.
        if row.now.due_at < self.horizon {
            self.lower(executor, row);
        }
    }

    fn lower(&mut self, executor: ExecutorId, row: &TaskRow) {
        let place: Place = (row.now.due_at, row.seq);
        for (scan, cells) in self.claims.get_mut(&executor).into_iter().flatten() {
            let concerned = match scan {
                Scan::Whole { .. } => true,
                Scan::Queue(name) => *name == row.queue_name,
            };
            if concerned {
                cells.lower(row.priority, place);
            }
        }
    }

    /// Takes out where this transaction has put tasks that were due before it began.
    pub(super) fn take_early(&mut self) -> BTreeMap<(ExecutorId, i16), i64> {
        std::mem::take(&mut self.early)
    }
}
