//! One thread that owns the connection which writes.
//!
//! It takes one command, adds those that have come meanwhile, runs them in one transaction and
//! answers each after the commit. There is no timer: while one batch commits, the next gathers
//! by itself, so an idle service answers after one commit and a busy one shares it among many.

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

/// Commands that may wait for the writer; one more is refused at once.
pub(super) const QUEUE_COMMANDS_MAX: usize = 4_096;
/// KiB of new tasks that may wait for the writer.
pub(super) const QUEUE_KIB_MAX: usize = 256 * 1024;
/// Commands of one transaction.
const BATCH_COMMANDS_MAX: usize = 512;
/// Bytes of what commands carry after which a transaction takes no more of them.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Transactions that mend stored times before a batch: after a step of the clock, and a silence, and
/// one more of what came meanwhile.
const MENDS_MAX: u32 = 3;

/// How often one command is tried that lost a race for a unique key to another process.
const RACES_MAX: u32 = 5;

pub(super) struct Writer {
    /// `None` while the database is away.
    pub(super) connection: Option<Connection>,
    /// Makes another connection like the one that was lost.
    pub(super) connect: Box<dyn Fn() -> anyhow::Result<Connection> + Send>,
    pub(super) reconnect: Reconnect,
    pub(super) file: Arc<DatabaseFile>,
    pub(super) health: Arc<Health>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) timekeeper: Timekeeper,
    pub(super) entropy: Arc<Entropy>,
    pub(super) signals: Arc<Signals>,
    /// Takes what other processes are to know.
    pub(super) outbox: Option<SyncSender<Effects>>,
    /// The thread that looks after the database goes on until this is dropped.
    pub(super) _keeper: SyncSender<()>,
    pub(super) registry: Registry,
    pub(super) floors: Floors,
    pub(super) deliveries_max: u32,
    pub(super) memory: Arc<Memory>,
    pub(super) metrics: Arc<Metrics>,
}

impl Writer {
    /// Works until every sender is gone and the last command is committed.
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

    /// Commits a batch. Where a statement fails, its commands are tried one by one, so that a bad
    /// one does not hurt its neighbours. Where the connection was lost before the commit, nothing
    /// was done, and the batch is tried once more. Where it was lost in the commit, nobody knows,
    /// so that nothing of it is tried again here.
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

    /// A connection that was lost does not come back by itself. But the one to a file that is not
    /// in its place any more is all that still leads to it.
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

    /// The connection, made anew if it was lost; while that fails, it is tried at growing
    /// intervals only, so that everybody is refused at once meanwhile.
    fn connection(&mut self) -> Result<&mut Connection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.reconnect.attempt(&self.entropy, &self.connect)?,
        };
        Ok(self.connection.insert(connection))
    }

    fn transact(&mut self, batch: &mut Batch) -> std::result::Result<(), Failed> {
        for _ in 0..MENDS_MAX {
            if self.apply_or_mend(batch)? {
                return Ok(());
            }
        }
        Err(Failed::Undone(Error::Unavailable("the clock does not come to rest".into())))
    }

    /// Carries out the batch in a transaction; or, where it finds that stored times are wrong, mends
    /// those in it and says that the batch is still to be done. (In one transaction they could want
    /// the same rows as others in another order.)
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
            tx.store_news()?;
            Ok((reading, Some(!seqs.is_empty())))
        });
        // Where the file went meanwhile, no caller is told that anything was done.
        let committed =
            committed.and_then(|done| self.file.check().map_err(Failed::Unknown).map(|()| done));
        let (reading, reported) = committed.inspect_err(|_failed| {
            self.registry.forget();
            self.floors.forget();
        })?;
        self.timekeeper.committed(&reading, reported.unwrap_or(true));
        self.health.up();
        self.floors.committed(begun.elapsed());
        self.signals.publish(&effects);
        if reported.is_none() {
            // Times were moved under them.
            self.floors.forget();
            return Ok(false);
        }
        self.metrics.committed(batch.len(), begun.elapsed());
        self.metrics.observe(&effects.observations);
        effects.turns.iter().for_each(Turn::log);
        self.tell_others(effects);
        Ok(true)
    }

    fn tell_others(&self, effects: Effects) {
        if let Some(outbox) = &self.outbox
            && outbox.try_send(effects).is_err()
        {
            tracing::debug!("other processes have to look for themselves");
        }
    }
}
