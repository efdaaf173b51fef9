//! Leases: the right to run one attempt for a limited time. A claim makes a lease and its token;
//! heartbeats extend it, and the report of the attempt's end uses it up. If it expires first, the
//! attempt is recorded as lost.
//!
//! Each report carries the lease's token, and the store compares it with the token in the task's
//! row. So a process that has lost its lease, and reports late, cannot change an attempt that
//! another one has begun since.

use std::{fmt, mem, str::FromStr, sync::Arc, time::Duration};

use super::{Timestamp, executor::Executor, json::JsonText, task::Task};

/// The right to run one attempt. It is made by the store's claim and consumed when the attempt is
/// finished. After that, or after it expired, its token gives access to nothing.
#[derive(Debug)]
pub struct Lease {
    token: LeaseToken,
}

impl Lease {
    /// Makes a lease. Only the store's claim may call this.
    pub(crate) fn claimed(token: LeaseToken) -> Self {
        Self { token }
    }

    pub fn token(&self) -> LeaseToken {
        self.token
    }
}

impl From<Lease> for LeaseToken {
    fn from(lease: Lease) -> Self {
        lease.token
    }
}

/// The token that executors and workers send with their reports. It says in which row the task is
/// (`seq`), so that the row is found without another index, and it proves the right to report
/// (`secret`), since 128 random bits cannot be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken {
    pub(crate) seq: i64,
    pub(crate) secret: [u8; 16],
}

/// The text is not a lease token. Callers treat it as the token of an attempt that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAToken;

impl FromStr for LeaseToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let (seq, secret) = text.split_at_checked(16).ok_or(NotAToken)?;
        if secret.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAToken);
        }
        let seq = i64::from_str_radix(seq, 16).or(Err(NotAToken))?;
        let secret = u128::from_str_radix(secret, 16).or(Err(NotAToken))?;
        Ok(Self { seq, secret: secret.to_be_bytes() })
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:032x}", self.seq, u128::from_be_bytes(self.secret))
    }
}

/// Leaves out the secret, since debug output gets into logs.
impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseToken({})", self.seq)
    }
}

/// All that an executor or worker is told about the attempt that it is to run.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The task's record as it is once the attempt has begun.
    pub task: Task,
    /// The most attempts that the task has, including those made before it was retried by hand.
    pub max_attempts: u32,
    pub deadline: Timestamp,
    pub expires_at: Timestamp,
    pub traceparent: Option<String>,
    pub token: LeaseToken,
}

impl Assignment {
    /// Takes out args and kwargs, which may be large. The code that runs the attempt drops them as
    /// soon as they are sent.
    pub fn take_inputs(&mut self) -> Inputs {
        let content = &mut self.task.content;
        Inputs {
            args: mem::replace(&mut content.args, JsonText::empty_array()),
            kwargs: mem::replace(&mut content.kwargs, JsonText::empty_object()),
        }
    }

    /// The number of this attempt, counted from 1.
    pub fn attempt(&self) -> u32 {
        self.task.attempts
    }

    /// The time that the attempt has, from its claim to its deadline.
    pub fn time(&self) -> Duration {
        let claimed_at = self.task.times.last_attempted_at.unwrap_or(self.deadline);
        Duration::try_from(self.deadline.duration_since(claimed_at)).unwrap_or_default()
    }
}

/// The task's inputs, args and kwargs.
#[derive(Debug)]
pub struct Inputs {
    pub args: JsonText,
    pub kwargs: JsonText,
}

impl Inputs {
    pub fn bytes(&self) -> usize {
        self.args.as_str().len() + self.kwargs.as_str().len()
    }
}

/// A claimed attempt: the right to run it, what to run, and the executor.
#[derive(Debug)]
pub struct Claimed {
    pub lease: Lease,
    pub assignment: Box<Assignment>,
    pub executor: Arc<Executor>,
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// When the lease now expires, unless it is renewed again.
    pub expires_at: Timestamp,
    /// Whether the attempt is to stop.
    pub cancel_requested: bool,
}

#[cfg(test)]
mod tests {
    use super::LeaseToken;

    #[test]
    fn a_token_survives_its_text() {
        let token = LeaseToken { seq: 77, secret: [0xab; 16] };
        assert_eq!(token.to_string().len(), 48);
        assert_eq!(token.to_string().parse(), Ok(token));
        assert!(!format!("{token:?}").contains("abab"));
    }

    #[test]
    fn other_texts_are_no_tokens() {
        for text in ["", "12", &"g".repeat(48), &"a".repeat(47), &"é".repeat(24), &"+".repeat(48)]
        {
            assert!(text.parse::<LeaseToken>().is_err(), "{text}");
        }
    }
}
