//! Who may ask: the tokens that hold, kept in memory, and a brake on guessing.
//!
//! All tokens are known, so a wrong one costs a hash and a look into a table. They are read again
//! when another process has changed them, which is looked for every second.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::{Clock, later},
    domain::{
        Timestamp,
        names::{QueueName, TokenName},
        token::{Actor, Hash, Scope, Token},
    },
    store::{self, AdminElsewhere, Store, TokenTable},
};

/// How often to look whether tokens have changed.
pub const LOOK: Duration = Duration::from_secs(1);
/// How often the times of last use are written down.
const USES_PERIOD: Duration = Duration::from_mins(1);
/// Wrong tokens that one address may show within the window; each more is told to wait.
const GUESSES_MAX: u32 = 30;
/// For how long wrong tokens are counted.
pub const GUESSES_WINDOW: Duration = Duration::from_mins(1);
/// Addresses that are counted at once.
const GUESSERS_MAX: usize = 10_000;
/// Stands for the configured token where a name is asked for.
const ADMIN_TOKEN: &str = "admin_token";
/// Stands for everybody while there are no tokens.
const ANYBODY: &str = "anybody";
/// Names that no token of the table may have.
pub const STANDING_NAMES: [&str; 2] = [ADMIN_TOKEN, ANYBODY];

/// Who asks, and for what that is good.
#[derive(Clone, Debug)]
pub struct Caller {
    pub actor: Actor,
    shown: Shown,
    scopes: Vec<Scope>,
    /// The queues that the caller is bound to; `None`: all.
    pub queue_names: Option<Arc<[QueueName]>>,
}

/// What let a caller in.
#[derive(Clone, Copy, Debug)]
enum Shown {
    Nothing,
    Configured,
    Token(Hash),
}

impl Caller {
    fn anybody(address: Option<IpAddr>) -> Self {
        Self { scopes: vec![Scope::Admin], ..Self::nobody(address) }
    }

    /// Who shows no token where none is asked for.
    pub fn nobody(address: Option<IpAddr>) -> Self {
        let actor = Actor { name: ANYBODY.to_owned(), address };
        Self { actor, shown: Shown::Nothing, scopes: Vec::new(), queue_names: None }
    }

    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    pub fn may_use(&self, queue_name: &str) -> bool {
        let is = |name: &QueueName| name.as_str() == queue_name;
        self.queue_names.as_ref().is_none_or(|names| names.iter().any(is))
    }
}

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    NoToken,
    WrongToken,
    TooManyGuesses,
}

/// What is known of tokens.
pub struct Access {
    /// The configured token.
    admin: Option<Hash>,
    known: RwLock<Known>,
    guesses: Mutex<Guesses>,
    /// Not written down yet.
    uses: Mutex<HashMap<TokenName, Timestamp>>,
}

#[derive(Default)]
struct Known {
    version: i64,
    by_hash: HashMap<Hash, Token>,
}

impl From<TokenTable> for Known {
    fn from(TokenTable { version, tokens }: TokenTable) -> Self {
        let by_hash = tokens.into_iter().map(|token| (token.hash, token)).collect();
        Self { version, by_hash }
    }
}

impl Access {
    pub fn new(admin_token: Option<&str>, tokens: TokenTable) -> Self {
        Self {
            admin: admin_token.map(Hash::of),
            known: RwLock::new(tokens.into()),
            guesses: Mutex::default(),
            uses: Mutex::default(),
        }
    }

    /// Whether a token is asked for. From the first one on, whatever becomes of it.
    pub fn is_on(&self) -> bool {
        self.admin.is_some() || !self.known(|known| known.by_hash.is_empty())
    }

    pub fn admin_elsewhere(&self) -> AdminElsewhere {
        AdminElsewhere(self.admin.is_some())
    }

    /// Who shows this token.
    pub fn caller(
        &self,
        token: Option<&str>,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Caller, Refused> {
        if !self.is_on() {
            return Ok(Caller::anybody(address));
        }
        let hash = Hash::of(token.ok_or(Refused::NoToken)?);
        if self.admin.is_some_and(|admin| admin.is(&hash)) {
            let actor = Actor { name: ADMIN_TOKEN.to_owned(), address };
            let (shown, scopes) = (Shown::Configured, vec![Scope::Admin]);
            return Ok(Caller { actor, shown, scopes, queue_names: None });
        }
        let token = self.known(|known| known.by_hash.get(&hash).cloned());
        let Some(token) = token.filter(|token| token.is_live(now)) else {
            return Err(self.guessed(address, now));
        };
        locked(&self.uses).insert(token.name.clone(), now);
        let actor = Actor { name: token.name.as_str().to_owned(), address };
        let queue_names = token.queue_names.map(Into::into);
        Ok(Caller { actor, shown: Shown::Token(hash), scopes: token.scopes, queue_names })
    }

    /// Whether somebody who was let in would be again: for what goes on for long.
    pub fn still_admits(&self, caller: &Caller, now: Timestamp) -> bool {
        match caller.shown {
            Shown::Nothing => !self.is_on(),
            Shown::Configured => true,
            Shown::Token(hash) => {
                self.known(|known| known.by_hash.get(&hash).is_some_and(|token| token.is_live(now)))
            }
        }
    }

    fn guessed(&self, address: Option<IpAddr>, now: Timestamp) -> Refused {
        let Some(address) = address.map(network_of) else { return Refused::WrongToken };
        match locked(&self.guesses).count(address, now) {
            ..=GUESSES_MAX => Refused::WrongToken,
            count => {
                if count == GUESSES_MAX + 1 {
                    tracing::warn!(%address, "many wrong tokens: somebody may be guessing");
                }
                Refused::TooManyGuesses
            }
        }
    }

    /// Reads the tokens again if they have changed.
    pub async fn refresh(&self, store: &Store) -> store::Result<()> {
        let version = self.known(|known| known.version);
        if let Some(table) = store.tokens(version).await? {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if table.version > known.version {
                *known = table.into();
            }
        }
        Ok(())
    }

    async fn store_uses(&self, store: &Store) {
        let uses: Vec<_> = locked(&self.uses).drain().collect();
        if !uses.is_empty()
            && let Err(error) = store.note_token_uses(uses).await
        {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "when tokens were used is not written down");
        }
    }

    fn known<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Keeps what is known of tokens up to date, and writes down when they were used.
pub async fn keep(
    access: Arc<Access>,
    store: Store,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) {
    let mut written = clock.elapsed();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = clock.sleep(LOOK) => {}
        }
        if let Err(error) = access.refresh(&store).await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "tokens cannot be read; those that are known hold");
        }
        if clock.elapsed() >= written + USES_PERIOD {
            written = clock.elapsed();
            access.store_uses(&store).await;
        }
    }
    access.store_uses(&store).await;
}

/// Wrong tokens of this window.
#[derive(Default)]
struct Guesses {
    since: Timestamp,
    by_address: HashMap<IpAddr, u32>,
}

impl Guesses {
    /// Counts one more, and says how many there were.
    fn count(&mut self, address: IpAddr, now: Timestamp) -> u32 {
        if now >= later(self.since, GUESSES_WINDOW) || now < self.since {
            *self = Self { since: now, by_address: HashMap::new() };
        }
        if self.by_address.len() >= GUESSERS_MAX && !self.by_address.contains_key(&address) {
            return GUESSES_MAX + 2;
        }
        let count = self.by_address.entry(address).or_default();
        *count = count.saturating_add(1);
        *count
    }
}

/// Whoever has one IPv6 address has all of its /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
