//! The states of a task and the transitions between them, all in one function, [`next`].
//!
//! ```text
//! enqueue -> READY -> claim -> RUNNING -> finish -> SUCCESSFUL
//!              ^                  |-> error, attempts left: READY, later
//!              |                  |-> error, none left: FAILED
//!              |                  |-> not started, or handed back: READY, no attempt counted
//!              '-- retry          '-> cancelled: CANCELLED
//! READY -> cancel -> CANCELLED;  READY -> expires_at passed -> FAILED
//! ```

use thiserror::Error;

/// The state of a task as it is stored. READY is two stages, so that a claim, which looks at
/// available tasks only, never reads a task that is not due.
///
/// The numbers are stored, so they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Stage {
    /// READY, due later.
    Scheduled = 0,
    /// READY and due.
    Available = 1,
    Running = 2,
    Successful = 3,
    Failed = 4,
    Cancelled = 5,
}

impl Stage {
    pub const ALL: [Self; 6] = [
        Self::Scheduled,
        Self::Available,
        Self::Running,
        Self::Successful,
        Self::Failed,
        Self::Cancelled,
    ];

    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage as i16 == number)
    }

    pub fn is_finished(self) -> bool {
        match self {
            Self::Scheduled | Self::Available | Self::Running => false,
            Self::Successful | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// The facts about a task that [`next`] needs.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub stage: Stage,
    /// Whether another attempt may follow the present one.
    pub attempts_left: bool,
    /// Whether a delivery that fails may be repeated within the present attempt.
    pub deliveries_left: bool,
    pub cancel_requested: bool,
}

/// An event in the life of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time at which the task is due has come.
    Due,
    Claimed,
    Succeeded,
    /// The attempt failed, timed out, or was lost.
    Failed {
        retryable: bool,
    },
    /// The work certainly did not start.
    Undelivered,
    /// The attempt was given back, and is not counted.
    HandedBack,
    CancelRequested,
    /// The executor stopped the attempt, its grace period is over, or the caller forces the end.
    CancelForced,
    Expired,
    Retried,
}

/// The state that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Available,
    Running,
    Successful,
    /// READY again, after a backoff.
    RetryLater,
    /// READY again at once; the attempt does not count.
    Returned,
    Failed,
    Cancelled,
    /// Still RUNNING, and asked to stop.
    Stopping,
    /// Nothing changes, and that is no error.
    Unchanged,
}

/// The event is not possible at this stage.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{event:?} has no meaning for a task that is {stage:?}")]
pub struct Illegal {
    pub stage: Stage,
    pub event: Event,
}

/// Returns the state that follows an event. No other code decides that.
///
/// Once cancelling was requested, every end of the attempt is CANCELLED. If a success and a
/// cancellation race, the one that is committed first wins, and all readers see the same result.
pub fn next(state: State, event: Event) -> Result<Next, Illegal> {
    match state.stage {
        Stage::Scheduled | Stage::Available => waiting(state.stage, event),
        Stage::Running => running(state, event),
        Stage::Successful => None,
        Stage::Failed => (event == Event::Retried).then_some(Next::Available),
        Stage::Cancelled => match event {
            Event::CancelRequested | Event::CancelForced => Some(Next::Unchanged),
            Event::Retried => Some(Next::Available),
            Event::Due
            | Event::Claimed
            | Event::Succeeded
            | Event::Failed { .. }
            | Event::Undelivered
            | Event::HandedBack
            | Event::Expired => None,
        },
    }
    .ok_or(Illegal { stage: state.stage, event })
}

fn waiting(stage: Stage, event: Event) -> Option<Next> {
    match event {
        Event::Due => (stage == Stage::Scheduled).then_some(Next::Available),
        Event::Claimed => (stage == Stage::Available).then_some(Next::Running),
        Event::CancelRequested | Event::CancelForced => Some(Next::Cancelled),
        Event::Expired => Some(Next::Failed),
        Event::Succeeded
        | Event::Failed { .. }
        | Event::Undelivered
        | Event::HandedBack
        | Event::Retried => None,
    }
}

fn running(state: State, event: Event) -> Option<Next> {
    let unless_cancelled = |next| if state.cancel_requested { Next::Cancelled } else { next };
    match event {
        Event::Succeeded => Some(unless_cancelled(Next::Successful)),
        Event::Failed { retryable } if retryable && state.attempts_left => {
            Some(unless_cancelled(Next::RetryLater))
        }
        Event::Failed { .. } => Some(unless_cancelled(Next::Failed)),
        Event::Undelivered if !state.deliveries_left => Some(unless_cancelled(Next::Failed)),
        Event::Undelivered | Event::HandedBack => Some(unless_cancelled(Next::Returned)),
        Event::CancelRequested => Some(Next::Stopping),
        Event::CancelForced => Some(Next::Cancelled),
        Event::Due | Event::Claimed | Event::Expired | Event::Retried => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Next, Stage, State, next};

    const EVENTS: [Event; 11] = [
        Event::Due,
        Event::Claimed,
        Event::Succeeded,
        Event::Failed { retryable: true },
        Event::Failed { retryable: false },
        Event::Undelivered,
        Event::HandedBack,
        Event::CancelRequested,
        Event::CancelForced,
        Event::Expired,
        Event::Retried,
    ];

    fn at(stage: Stage) -> State {
        State { stage, attempts_left: true, deliveries_left: true, cancel_requested: false }
    }

    #[test]
    fn a_finished_task_changes_only_by_retry() {
        for stage in [Stage::Successful, Stage::Failed, Stage::Cancelled] {
            for event in EVENTS.into_iter().filter(|event| *event != Event::Retried) {
                let result = next(at(stage), event);
                assert!(matches!(result, Err(_) | Ok(Next::Unchanged)), "{stage:?} {event:?}");
            }
        }
        assert_eq!(next(at(Stage::Failed), Event::Retried), Ok(Next::Available));
        assert_eq!(next(at(Stage::Cancelled), Event::Retried), Ok(Next::Available));
        assert!(next(at(Stage::Successful), Event::Retried).is_err());
    }

    #[test]
    fn b26_after_a_cancel_every_end_is_cancelled() {
        let stopping = State { cancel_requested: true, ..at(Stage::Running) };
        for event in EVENTS {
            match next(stopping, event) {
                Ok(end) => assert!(matches!(end, Next::Cancelled | Next::Stopping), "{event:?}"),
                Err(_) => assert!(!matches!(event, Event::Succeeded | Event::Failed { .. })),
            }
        }
    }

    #[test]
    fn a_failure_is_retried_while_attempts_are_left_and_it_may_be() {
        let last = State { attempts_left: false, ..at(Stage::Running) };
        let failed = |retryable| Event::Failed { retryable };
        assert_eq!(next(at(Stage::Running), failed(true)), Ok(Next::RetryLater));
        assert_eq!(next(at(Stage::Running), failed(false)), Ok(Next::Failed));
        assert_eq!(next(last, failed(true)), Ok(Next::Failed));
        assert_eq!(next(last, Event::Undelivered), Ok(Next::Returned));
    }

    #[test]
    fn only_a_due_task_is_claimed() {
        for stage in Stage::ALL {
            let claimed = next(at(stage), Event::Claimed);
            assert_eq!(claimed.is_ok(), stage == Stage::Available, "{stage:?}");
        }
    }

    #[test]
    fn stages_keep_their_numbers() {
        for (number, stage) in (0..).zip(Stage::ALL) {
            assert_eq!(Stage::from_number(number), Some(stage));
        }
        assert_eq!(Stage::from_number(6), None);
    }
}
