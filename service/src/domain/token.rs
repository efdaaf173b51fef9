//! Tokens: who may ask for what.

use std::{fmt, net::IpAddr, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    Invalid, Timestamp,
    names::{QueueName, TokenName},
};

/// Begins each token, so that one in a log or a repository is known for what it is.
const PREFIX: &str = "nst_";

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Enqueue, cancel and retry tasks.
    Enqueue,
    /// Ask for everything there is to know.
    Read,
    /// Take tasks as a worker, and register executors of that kind.
    Work,
    /// Everything.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Enqueue, Self::Read, Self::Work, Self::Admin];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Read => "read",
            Self::Work => "work",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| Invalid::new("scopes", format!("{text:?} is no scope")))
    }
}

/// What callers show. Never stored, never logged.
pub struct Secret(String);

impl Secret {
    /// The token that these random bits make.
    pub fn new(random: [u8; 32]) -> Self {
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
    }

    pub fn into_text(self) -> String {
        self.0
    }

    pub fn hash(&self) -> Hash {
        Hash::of(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The SHA-256 of a token. Whoever measures how long it takes to find it in a table learns something
/// of the hash, from which nothing follows for the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether they are the same, in a time that does not tell where they differ.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash")
    }
}

/// A token that is to be.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub name: TokenName,
    pub hash: Hash,
    pub scopes: Vec<Scope>,
    /// Where it holds; `None`: in all queues.
    pub queue_names: Option<Vec<QueueName>>,
    pub expires_at: Option<Timestamp>,
}

/// A token as it is kept.
#[derive(Clone, Debug)]
pub struct Token {
    pub name: TokenName,
    pub hash: Hash,
    pub scopes: Vec<Scope>,
    pub queue_names: Option<Vec<QueueName>>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

impl Token {
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| at > now)
    }

    pub fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }
}

/// Who asks, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The token's name, or what stands for it.
    pub name: String,
    pub address: Option<IpAddr>,
}

/// An entry of the audit log.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub actor: String,
    pub address: Option<String>,
    /// The operation, as the OpenAPI document names it.
    pub action: String,
    /// The name or id of what it was done to.
    pub object: String,
}
