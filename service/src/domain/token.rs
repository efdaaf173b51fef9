//! Access tokens with their scopes, and entries of the audit log.

use std::{fmt, net::IpAddr, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    Invalid, Timestamp,
    names::{QueueName, TokenName},
};

/// Every token begins with this, so that a token in a log or a repository can be recognised.
const PREFIX: &str = "nst_";

/// The operations that a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Enqueue, cancel and retry tasks.
    Enqueue,
    /// Read everything.
    Read,
    /// Take tasks as a worker, and register executors of kind worker.
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

/// The token itself, as callers send it. It is never stored and never logged.
pub struct Secret(String);

impl Secret {
    /// Makes a token from random bytes.
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

/// The SHA-256 of a token, by which tokens are looked up. An attacker who measures how long a
/// look-up takes may learn something about the hash, but the token cannot be computed from its
/// hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether both hashes are equal, compared in constant time.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash")
    }
}

/// A token that is to be created.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub name: TokenName,
    pub hash: Hash,
    pub scopes: Vec<Scope>,
    /// The queues for which the token is valid. `None`: all.
    pub queue_names: Option<Vec<QueueName>>,
    pub expires_at: Option<Timestamp>,
}

/// A token as it is stored.
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

/// The caller of an operation, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The name of the token, or a text that stands for it if there was none.
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
    /// The name or id of the object that was changed.
    pub object: String,
}
