//! One thread that owns the connection which writes.
//!
//! It takes one command, adds those that have come meanwhile, runs them in one transaction and
//! answers each after the commit. There is no timer: while one batch commits, the next gathers
//! by itself, so an idle service answers after one commit and a busy one shares it among many.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    command::{Batch, Command},
    error::{Error, Result},
    link::Connection,
    registry::Registry,
    signals::{Effects, Signals},
    tx::Tx,
};
use crate::{clock::Clock, entropy::Entropy};

/// Commands that may wait for the writer; one more is refused at once.
pub(super) const QUEUE_COMMANDS_MAX: usize = 4_096;
/// KiB of new tasks that may wait for the writer.
pub(super) const QUEUE_KIB_MAX: usize = 256 * 1024;
/// Commands of one transaction.
const BATCH_COMMANDS_MAX: usize = 512;
/// Bytes of new tasks after which a transaction takes no more commands.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(super) struct Writer {
    pub(super) connection: Connection,
    /// Makes another connection like the one that was lost.
    pub(super) connect: Box<dyn Fn() -> anyhow::Result<Connection> + Send>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<Entropy>,
    pub(super) signals: Arc<Signals>,
    pub(super) registry: Registry,
    pub(super) deliveries_max: u32,
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
    }

    /// Commits a batch. Where a statement fails, its commands are tried one by one, so that a bad
    /// one does not hurt its neighbours. Where the database is lost, nobody knows whether the
    /// batch was committed, so that nothing of it is tried again here.
    fn commit(&mut self, mut batch: Batch) {
        match self.transact(&mut batch) {
            Ok(()) => batch.settle(),
            Err(Error::Unavailable(cause)) => {
                tracing::error!(error = &*cause as &dyn std::error::Error, "a commit was lost");
                for command in batch.into_commands() {
                    command.refuse(Error::Unavailable("the commit was lost".into()));
                }
                self.connect_again();
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a batch was rolled back");
                for command in batch.into_commands() {
                    self.commit_alone(command);
                }
            }
        }
    }

    /// A connection that was lost does not come back by itself. Where this fails, the next batch
    /// does, and tries again.
    fn connect_again(&mut self) {
        match (self.connect)() {
            Ok(connection) => self.connection = connection,
            Err(error) => tracing::error!(error = &*error, "the database cannot be reached"),
        }
    }

    fn commit_alone(&mut self, command: Command) {
        let mut batch = Batch::default();
        batch.push(command);
        match self.transact(&mut batch) {
            Ok(()) => batch.settle(),
            Err(error) => {
                let mut error = Some(error);
                for command in batch.into_commands() {
                    command.refuse(error.take().unwrap_or(Error::Closed));
                }
            }
        }
    }

    fn transact(&mut self, batch: &mut Batch) -> Result<()> {
        let mut effects = Effects::default();
        let registry = &mut self.registry;
        let now = self.clock.now();
        let committed = self.connection.transaction(|mut link| {
            registry.refresh(&mut link)?;
            let mut tx = Tx {
                link,
                now,
                entropy: &self.entropy,
                registry: &mut *registry,
                effects: &mut effects,
                deliveries_max: self.deliveries_max,
            };
            batch.apply(&mut tx)
        });
        match committed {
            Ok(()) => {
                self.signals.publish(effects);
                Ok(())
            }
            Err(error) => {
                self.registry.forget();
                Err(error)
            }
        }
    }
}
