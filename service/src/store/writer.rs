//! The writer: one thread that owns the only connection that writes.
//!
//! It takes one command, adds those that already wait in its queue, runs them in one transaction
//! and answers each after the commit. There is no timer: while one batch commits, the next one
//! gathers in the queue. So an idle service answers after one commit, and a busy one shares a
//! commit among many commands.

use std::{
    sync::{Arc, mpsc::SyncSender},
    time::Instant,
};

use tokio::sync::mpsc;

use super::{
    audit,
    changes::Changes,
    circuit::Turn,
    command::{Batch, Command},
    dialect,
    error::{Error, Misplaced, Result},
    events::News,
    file::DatabaseFile,
    floors::Floors,
    health::{Health, Reconnect},
    link::{Connection, Failed},
    registry::Registry,
    signals::{Effects, Signals},
    timekeeper::Timekeeper,
    tx::Tx,
};
use crate::{clock::Clock, entropy::Entropy, memory::Memory, metrics::Metrics};

/// How many commands may wait for the writer. A caller that does not wait for room is refused.
pub(super) const QUEUE_COMMANDS_MAX: usize = 4_096;
/// How many KiB of new tasks may wait for the writer.
pub(super) const QUEUE_KIB_MAX: usize = 256 * 1024;
/// The largest number of commands in one transaction.
const BATCH_COMMANDS_MAX: usize = 512;
/// A transaction that holds more bytes of payload than this takes no further command.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How many transactions one batch may take. A transaction that finds wrong stored times mends them
/// and does nothing else. A step of the clock and a silence may cost one each, the last one is for
/// the batch; if all of them had to mend, the clock does not come to rest.
const MENDS_MAX: u32 = 3;

/// How often a single command is tried again after another process was faster to store the same
/// unique key.
const RACES_MAX: u32 = 5;

pub(super) struct Writer {
    /// `None` while the database cannot be reached.
    pub(super) connection: Option<Connection>,
    /// Makes a new connection to the same database after the old one was lost.
    pub(super) connect: Box<dyn Fn() -> anyhow::Result<Connection> + Send>,
    pub(super) reconnect: Reconnect,
    pub(super) file: Arc<DatabaseFile>,
    pub(super) health: Arc<Health>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) timekeeper: Timekeeper,
    pub(super) entropy: Arc<Entropy>,
    pub(super) signals: Arc<Signals>,
    /// Takes the effects of each commit that other processes are told of; `None` without a
    /// listener.
    pub(super) outbox: Option<SyncSender<Effects>>,
    /// The keeper's thread runs until this sender is dropped.
    pub(super) _keeper: SyncSender<()>,
    pub(super) registry: Registry,
    pub(super) floors: Floors,
    pub(super) deliveries_max: u32,
    pub(super) memory: Arc<Memory>,
    pub(super) metrics: Arc<Metrics>,
}

impl Writer {
    /// Works until every sender of commands is dropped and the last command is committed.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let mut bytes = first.bytes();
            let mut batch = Batch::default();
            batch.push(first);
            for _ in 1..BATCH_COMMANDS_MAX {
                if bytes > BATCH_BYTES_MAX {
                    break;
                }
                let Ok(command) = commands.try_recv() else { break };
                bytes += command.bytes();
                batch.push(command);
            }
            self.commit(batch);
        }
        if let Some(connection) = &mut self.connection {
            connection.tidy_up();
        }
    }

    /// Commits a batch and answers its commands.
    ///
    /// - If a statement fails, nothing was stored, and the commands are tried one by one, so that a
    ///   bad one does not fail its neighbours.
    /// - If the connection is lost before the commit, nothing was stored, and the batch is tried
    ///   once more on a new connection.
    /// - If the connection is lost during the commit, the outcome is unknown. Nothing is tried
    ///   again here, since it could then be done twice, and all callers get [`Error::Unavailable`].
    fn commit(&mut self, mut batch: Batch) {
        let was_connected = self.connection.is_some();
        let mut done = self.transact(&mut batch);
        if let Err(Failed::Undone(error @ Error::Unavailable(cause))) = &done
            && was_connected
            && error.misplaced().is_none()
        {
            tracing::warn!(error = &**cause as &dyn std::error::Error, "a batch is tried again");
            self.disconnect();
            done = self.transact(&mut batch);
        }
        match done {
            Ok(()) => batch.settle(),
            Err(Failed::Unknown(error) | Failed::Undone(error @ Error::Unavailable(_))) => {
                self.lose(&error);
                let misplaced = error.misplaced().cloned();
                for command in batch.into_commands() {
                    command.refuse(Error::Unavailable(match &misplaced {
                        Some(misplaced) => misplaced.clone().into(),
                        None => "the commit was lost".into(),
                    }));
                }
            }
            Err(Failed::Undone(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a batch is taken apart");
                for command in batch.into_commands() {
                    self.commit_alone(command);
                }
            }
        }
    }

    /// Commits one command of a batch that failed as a whole. A lost race for a unique key is tried
    /// again: the next try finds what the other process has stored.
    fn commit_alone(&mut self, command: Command) {
        let mut batch = Batch::default();
        batch.push(command);
        let mut races = RACES_MAX;
        let failed = loop {
            match self.transact(&mut batch) {
                Ok(()) => return batch.settle(),
                Err(Failed::Undone(error)) if error.is_race() && races > 0 => races -= 1,
                Err(failed) => break failed,
            }
        };
        let (Failed::Undone(error) | Failed::Unknown(error)) = failed;
        if let Error::Unavailable(_) = error {
            self.lose(&error);
        }
        let mut error = Some(error);
        for command in batch.into_commands() {
            command.refuse(error.take().unwrap_or(Error::Closed));
        }
    }

    /// Gives the connection up after a failure, since a lost connection does not recover. Only a
    /// connection to an SQLite file that was moved or replaced is kept: nothing else leads to that
    /// file.
    fn lose(&mut self, error: &Error) {
        if !matches!(error.misplaced(), Some(Misplaced::File(_))) {
            self.disconnect();
        }
        self.timekeeper.failed();
        self.health.down(error);
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.file.closed();
    }

    /// The connection; a lost one is made anew. While that fails, it is tried at growing intervals
    /// only, and commands are refused at once in between.
    fn connection(&mut self) -> Result<&mut Connection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.reconnect.attempt(&self.entropy, &self.connect)?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Runs the batch in a transaction, after the transactions that mend stored times.
    fn transact(&mut self, batch: &mut Batch) -> std::result::Result<(), Failed> {
        for _ in 0..MENDS_MAX {
            if self.apply_or_mend(batch)? {
                return Ok(());
            }
        }
        Err(Failed::Undone(Error::Unavailable("the clock does not come to rest".into())))
    }

    /// Carries the batch out in one transaction and returns true. If the transaction finds that
    /// stored times are wrong, it mends them, does nothing else and returns false. Both in one
    /// transaction could take row locks in another order than other processes do, which is a
    /// deadlock.
    fn apply_or_mend(&mut self, batch: &mut Batch) -> std::result::Result<bool, Failed> {
        self.file.check().map_err(Failed::Undone)?;
        self.connection().map_err(Failed::Undone)?;
        let Some(connection) = &mut self.connection else {
            return Err(Failed::Undone(Error::Closed));
        };
        let begun = Instant::now();
        let mut effects = Effects::default();
        let (registry, floors) = (&mut self.registry, &mut self.floors);
        let timekeeper = &self.timekeeper;
        let committed = connection.transaction(|mut link| {
            // Locks are taken in one order by all processes, so that none waits in a circle: the
            // routing lock, task rows by `seq`, the claim lock, circuits by executor
            // (docs/STORAGE.md).
            dialect::lock_routing(&mut link, batch.changes_routing())?;
            let (reading, version) = timekeeper.read(&mut link, &*self.clock)?;
            let now = reading.now;
            if let Some(moved) = timekeeper.look(&reading) {
                timekeeper.mend(&mut link, &reading, moved)?;
                effects.sweep_by(now);
                return Ok((reading, None));
            }
            registry.refresh(&mut link, version)?;
            if timekeeper.moved_by_others(&reading) {
                floors.forget();
            }
            floors.enter(now);
            let mut tx = Tx {
                link,
                now,
                entropy: &self.entropy,
                registry: &mut *registry,
                floors: &mut *floors,
                changes: Changes::default(),
                news: News::default(),
                notes: Vec::new(),
                effects: &mut effects,
                deliveries_max: self.deliveries_max,
                memory: &self.memory,
            };
            let (seqs, ids) = batch.concerns();
            tx.changes.lock(&mut tx.link, &seqs, &ids)?;
            batch.apply(&mut tx)?;
            tx.registry.store_circuits(&mut tx.link)?;
            audit::store(&mut tx)?;
            tx.store_rewinds()?;
            // The last statement, so that no event stands before one that was its cause.
            tx.store_news()?;
            Ok((reading, Some(!seqs.is_empty())))
        });
        // If the file was replaced meanwhile, the outcome is unknown, and no caller is told that
        // its command was done.
        let committed =
            committed.and_then(|done| self.file.check().map_err(Failed::Unknown).map(|()| done));
        // Values that a rolled-back transaction has read or written do not hold.
        let (reading, reported) = committed.inspect_err(|_failed| {
            self.registry.forget();
            self.floors.forget();
        })?;
        self.timekeeper.committed(&reading, reported.unwrap_or(true));
        self.health.up();
        self.floors.committed(begun.elapsed());
        self.signals.publish(&effects);
        if reported.is_none() {
            // The times by which the floors were found have just been moved.
            self.floors.forget();
            return Ok(false);
        }
        self.metrics.committed(batch.len(), begun.elapsed());
        self.metrics.observe(&effects.observations);
        effects.turns.iter().for_each(Turn::log);
        self.tell_others(effects);
        Ok(true)
    }

    /// Hands the effects to the listener without waiting. If its queue is full, they are dropped:
    /// other processes find the changes when they look by themselves.
    fn tell_others(&self, effects: Effects) {
        if let Some(outbox) = &self.outbox
            && outbox.try_send(effects).is_err()
        {
            tracing::debug!("other processes have to look for themselves");
        }
    }
}
