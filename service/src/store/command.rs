//! The writer's commands, in one table: for each kind its request, its answer and the function that
//! carries it out. A [`Batch`] holds the commands of one transaction.

use tokio::sync::oneshot;

use super::{
    asks::{self, Ask},
    attempt::{self, Ended, FinishRequest, LeaseLost, RenewRequest},
    audit::{self, Note},
    claim::{self, ClaimRequest, Claims},
    enqueue::{self, EnqueueAnswer},
    error::{Error, Result},
    events,
    executors::{self, ExecutorChange, NotRegistered, Registered},
    plugins::{self, ActivateAnswer, ActivateRequest, Installed, UninstallAnswer},
    prune::{self, PruneRequest, Pruned},
    queues::{self, QueueChange, SetAnswer},
    steer::{self, CancelAnswer, CancelRequest, DeleteAnswer, RetryAnswer},
    sweep::{self, SweepRequest},
    tokens::{
        self, CreateTokenAnswer, CreateTokenRequest, RevokeTokenAnswer, RevokeTokenRequest, Uses,
    },
    tx::Tx,
};
use crate::domain::{
    executor::{Executor, Registration},
    lease::{LeaseToken, Renewal},
    names::{ExecutorName, PluginName},
    plugin::NewPlugin,
    task::{NewTask, TaskId},
};

/// Decides by the answer whether a command has changed something.
type Done<O> = fn(&O) -> bool;

/// A command whose caller waits for the answer.
pub(super) struct Pending<I, O> {
    input: I,
    output: Option<O>,
    waiter: oneshot::Sender<Result<O>>,
    /// The entry for the audit log, which is written if the answer says that something was done.
    note: Option<(Note, Done<O>)>,
}

impl<I, O> Pending<I, O> {
    pub(super) fn new(input: I, waiter: oneshot::Sender<Result<O>>) -> Self {
        Self { input, output: None, waiter, note: None }
    }

    pub(super) fn noted(self, note: Note, done: Done<O>) -> Self {
        Self { note: Some((note, done)), ..self }
    }

    /// Answers after the commit. If the caller has stopped waiting, only the answer is dropped: the
    /// command was carried out all the same.
    fn settle(mut self) {
        let missing = || Error::Corrupt("a command without an answer".to_owned());
        let answer = self.output.take().ok_or_else(missing);
        self.answer(answer);
    }

    fn answer(self, answer: Result<O>) {
        if self.waiter.send(answer).is_err() {
            tracing::debug!("nobody waits for the answer to a command any more");
        }
    }
}

/// Runs all commands of one kind by that kind's function and keeps their answers.
fn run<I, O>(
    tx: &mut Tx<'_>,
    pending: &mut [Pending<I, O>],
    statement: fn(&mut Tx<'_>, &[&I]) -> Result<Vec<O>>,
) -> Result<()> {
    if pending.is_empty() {
        return Ok(());
    }
    let inputs: Vec<&I> = pending.iter().map(|pending| &pending.input).collect();
    let outputs = statement(tx, &inputs)?;
    for (pending, output) in pending.iter_mut().zip(outputs) {
        if let Some((note, done)) = &pending.note
            && done(&output)
        {
            tx.notes.push(note.clone());
        }
        pending.output = Some(output);
    }
    // The next kind reads these changes from the database.
    tx.flush()
}

/// Generates from the table below: a variant for each kind of command, its field in a batch, and
/// the call of its function.
macro_rules! commands {
    ($($variant:ident $field:ident: $input:ty => $output:ty, $statement:path;)*) => {
        #[expect(clippy::large_enum_variant, reason = "registrations are large, and rare")]
        pub(super) enum Command {
            $($variant(Pending<$input, $output>),)*
        }

        /// The commands of one transaction, grouped by kind.
        #[derive(Default)]
        pub(super) struct Batch {
            $($field: Vec<Pending<$input, $output>>,)*
        }

        impl Batch {
            pub(super) fn push(&mut self, command: Command) {
                match command {
                    $(Command::$variant(pending) => self.$field.push(pending),)*
                }
            }

            /// Runs the kinds in the order of the table. No command of the batch has been answered
            /// yet, so all of them are concurrent and any order is correct.
            pub(super) fn apply(&mut self, tx: &mut Tx<'_>) -> Result<()> {
                $(run(tx, &mut self.$field, $statement)?;)*
                Ok(())
            }

            pub(super) fn len(&self) -> usize {
                0 $(+ self.$field.len())*
            }

            pub(super) fn settle(self) {
                $(self.$field.into_iter().for_each(Pending::settle);)*
            }

            /// Takes the batch apart, so that its commands can be tried one by one.
            pub(super) fn into_commands(self) -> Vec<Command> {
                let mut commands = Vec::new();
                $(commands.extend(self.$field.into_iter().map(Command::$variant));)*
                commands
            }
        }

        impl Command {
            pub(super) fn refuse(self, error: Error) {
                match self {
                    $(Self::$variant(pending) => pending.answer(Err(error)),)*
                }
            }
        }
    };
}

impl Batch {
    /// Whether a command may change which executor serves which tasks. Such a batch takes the
    /// routing lock exclusively; all others share it.
    pub(super) fn changes_routing(&self) -> bool {
        !(self.put.is_empty()
            && self.change.is_empty()
            && self.remove.is_empty()
            && self.install.is_empty()
            && self.activate.is_empty()
            && self.uninstall.is_empty()
            && self.set_queue.is_empty())
    }

    /// The tasks that the commands name, by `seq` or by id. Their rows are locked before any
    /// command runs.
    pub(super) fn concerns(&self) -> (Vec<i64>, Vec<Vec<u8>>) {
        let renewed = self.renew.iter().map(|pending| pending.input.token.seq);
        let detached = self.detach.iter().map(|pending| pending.input.seq);
        let finished = self.finish.iter().map(|pending| pending.input.token.seq);
        let cancelled = self.cancel.iter().map(|pending| pending.input.id);
        let retried = self.retry.iter().map(|pending| pending.input);
        let deleted = self.delete.iter().map(|pending| pending.input);
        let ids = cancelled.chain(retried).chain(deleted);
        (
            renewed.chain(detached).chain(finished).collect(),
            ids.map(|id| id.0.as_bytes().to_vec()).collect(),
        )
    }
}

impl Command {
    /// How many bytes the command carries, for the kinds that may carry many.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Enqueue(pending) => pending.input.iter().map(NewTask::bytes).sum(),
            // The lines are stored twice: in the task's log, and in the events.
            Self::Renew(pending) => 2 * pending.input.log.bytes(),
            Self::Finish(pending) => pending.input.outcome.bytes(),
            Self::Install(pending) => pending.input.component.len(),
            Self::Put(_)
            | Self::Change(_)
            | Self::Remove(_)
            | Self::Activate(_)
            | Self::Uninstall(_)
            | Self::SetQueue(_)
            | Self::Cancel(_)
            | Self::Retry(_)
            | Self::Delete(_)
            | Self::Detach(_)
            | Self::Sweep(_)
            | Self::Prune(_)
            | Self::Trim(_)
            | Self::CreateToken(_)
            | Self::RevokeToken(_)
            | Self::NoteUses(_)
            | Self::NoteAsks(_)
            | Self::TrimAudit(_)
            | Self::Claim(_) => 0,
        }
    }
}

commands! {
    Put put: Registration => std::result::Result<Registered, NotRegistered>, executors::put;
    Change change: ExecutorChange => Option<Executor>, executors::change;
    Remove remove: ExecutorName => bool, executors::remove;
    Install install: NewPlugin => std::result::Result<Installed, NotRegistered>, plugins::install;
    Activate activate: ActivateRequest => ActivateAnswer, plugins::activate;
    Uninstall uninstall: PluginName => UninstallAnswer, plugins::uninstall;
    SetQueue set_queue: QueueChange => SetAnswer, queues::set;
    Enqueue enqueue: Vec<NewTask> => EnqueueAnswer, enqueue::enqueue;
    Cancel cancel: CancelRequest => CancelAnswer, steer::cancel;
    Retry retry: TaskId => RetryAnswer, steer::retry;
    Delete delete: TaskId => DeleteAnswer, steer::delete;
    Renew renew: RenewRequest => std::result::Result<Renewal, LeaseLost>, attempt::renew;
    Detach detach: LeaseToken => std::result::Result<(), LeaseLost>, attempt::detach;
    Finish finish: FinishRequest => std::result::Result<Ended, LeaseLost>, attempt::finish;
    Sweep sweep: SweepRequest => (), sweep::sweep;
    Prune prune: PruneRequest => Pruned, prune::prune;
    Trim trim: i64 => bool, events::trim;
    CreateToken create_token: CreateTokenRequest => CreateTokenAnswer, tokens::create;
    RevokeToken revoke_token: RevokeTokenRequest => RevokeTokenAnswer, tokens::revoke;
    NoteUses note_uses: Uses => (), tokens::note_uses;
    NoteAsks note_asks: Vec<Ask> => (), asks::note;
    TrimAudit trim_audit: i64 => bool, audit::trim;
    Claim claim: ClaimRequest => Claims, claim::claim;
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::{Command, FinishRequest, LeaseToken, Pending, RenewRequest};
    use crate::domain::{
        attempt::{Failure, FailureKind, LogLevel, Outcome},
        log::{NewLog, NewLogLine},
    };

    #[test]
    fn what_reports_carry_counts_for_the_transaction() {
        let token = LeaseToken { seq: 1, secret: [0; 16] };
        let mut log = NewLog::default();
        for _ in 0..10 {
            let message = "x".repeat(8_000);
            log.push(NewLogLine { at: None, level: LogLevel::Info, message });
        }
        let renew = RenewRequest { token, progress: None, log };
        let failure = Failure::new(FailureKind::Exception, "x".repeat(9_000));
        let finish = FinishRequest { token, outcome: Outcome::Failed(failure) };
        let renew = Command::Renew(Pending::new(renew, oneshot::channel().0));
        assert!(renew.bytes() >= 160_000, "once for the task, once for those who watch");
        assert!(Command::Finish(Pending::new(finish, oneshot::channel().0)).bytes() >= 9_000);
    }
}
