use std::{fmt, mem, str::FromStr, sync::Arc, time::Duration};

use super::{Timestamp, executor::Executor, json::JsonText, task::Task};

/// The right to run one attempt. Made by the store's claim, and spent by value when the attempt
/// is finished; after that, or once it ran out, its token opens nothing.
#[derive(Debug)]
pub struct Lease {
    token: LeaseToken,
}

impl Lease {
    /// For the store's claim only.
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

/// Names a lease to whoever is outside. It says where the task lies (`seq`) and proves the right
/// to it (`secret`), so that it is found without an index and cannot be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken {
    pub(crate) seq: i64,
    pub(crate) secret: [u8; 16],
}

/// Not a lease token: the attempt it might have named is over.
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

/// Without the secret, since this ends in logs.
impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseToken({})", self.seq)
    }
}

/// An attempt that somebody is to run.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The record as it is now that the attempt has begun.
    pub task: Task,
    /// Attempts that the task has in all, those before a retry by hand included.
    pub max_attempts: u32,
    pub deadline: Timestamp,
    pub expires_at: Timestamp,
    pub traceparent: Option<String>,
    pub token: LeaseToken,
}

impl Assignment {
    /// Takes the inputs out, which may be large: the code that runs the attempt drops them once
    /// they are on their way.
    pub fn take_inputs(&mut self) -> Inputs {
        let content = &mut self.task.content;
        Inputs {
            args: mem::replace(&mut content.args, JsonText::empty_array()),
            kwargs: mem::replace(&mut content.kwargs, JsonText::empty_object()),
        }
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.task.attempts
    }

    /// How long it may take from its claim on.
    pub fn time(&self) -> Duration {
        let claimed_at = self.task.times.last_attempted_at.unwrap_or(self.deadline);
        Duration::try_from(self.deadline.duration_since(claimed_at)).unwrap_or_default()
    }
}

/// What an attempt is given to work on.
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

/// One claimed attempt: the right to run it, what to run, and where.
#[derive(Debug)]
pub struct Claimed {
    pub lease: Lease,
    pub assignment: Box<Assignment>,
    pub executor: Arc<Executor>,
}

/// What a heartbeat answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    pub expires_at: Timestamp,
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
