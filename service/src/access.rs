//! Decides which caller a request comes from: keeps all tokens in memory, and slows down callers
//! that guess tokens.
//!
//! Since all tokens are in memory, a wrong one costs one hash and one look-up, and no query. They
//! are read again after another process has changed them; a loop checks for that every second.

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

/// How often the process checks whether tokens have changed.
pub const LOOK: Duration = Duration::from_secs(1);
/// How often the times at which tokens were last used are stored.
const USES_PERIOD: Duration = Duration::from_mins(1);
/// How many wrong tokens an address may send within the window. After that, it is told to wait.
const GUESSES_MAX: u32 = 30;
/// The length of the window in which wrong tokens are counted.
pub const GUESSES_WINDOW: Duration = Duration::from_mins(1);
/// How many addresses are counted at once.
const GUESSERS_MAX: usize = 10_000;
/// The name of the configured admin token in the audit log.
const ADMIN_TOKEN: &str = "admin_token";
/// The name of every caller while there are no tokens.
const ANYBODY: &str = "anybody";
/// Names that a stored token may not have.
pub const STANDING_NAMES: [&str; 2] = [ADMIN_TOKEN, ANYBODY];

/// The caller of a request, and its rights.
#[derive(Clone, Debug)]
pub struct Caller {
    pub actor: Actor,
    shown: Shown,
    scopes: Vec<Scope>,
    /// The queues to which the caller's token is limited. `None`: all queues.
    pub queue_names: Option<Arc<[QueueName]>>,
}

/// The proof by which the caller was let in.
#[derive(Clone, Copy, Debug)]
enum Shown {
    Nothing,
    Configured,
    Token(Hash),
}

impl Caller {
    /// A caller with all rights, while no token is required.
    fn anybody(address: Option<IpAddr>) -> Self {
        Self { scopes: vec![Scope::Admin], ..Self::nobody(address) }
    }

    /// A caller without a token, at a place where none is required. It has no rights.
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

/// Why a caller is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    NoToken,
    WrongToken,
    TooManyGuesses,
}

/// The tokens that are valid, and the state that belongs to them.
pub struct Access {
    /// The hash of the configured admin token.
    admin: Option<Hash>,
    known: RwLock<Known>,
    guesses: Mutex<Guesses>,
    /// When tokens were last used, as far as that is not stored yet.
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

    /// Whether requests need a token: as soon as there is one, even if it is revoked or has
    /// expired. Otherwise revoking the last token would open the service to all.
    pub fn is_on(&self) -> bool {
        self.admin.is_some() || !self.known(|known| known.by_hash.is_empty())
    }

    pub fn admin_elsewhere(&self) -> AdminElsewhere {
        AdminElsewhere(self.admin.is_some())
    }

    /// The caller that sends this token.
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

    /// Whether a caller that was let in would be let in again now. For requests that last long,
    /// such as event streams.
    pub fn still_admits(&self, caller: &Caller, now: Timestamp) -> bool {
        match caller.shown {
            Shown::Nothing => !self.is_on(),
            Shown::Configured => true,
            Shown::Token(hash) => {
                self.known(|known| known.by_hash.get(&hash).is_some_and(|token| token.is_live(now)))
            }
        }
    }

    /// Counts a wrong token, and says how to refuse it.
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

    /// Reads the tokens again if they have changed since the last time.
    pub async fn refresh(&self, store: &Store) -> store::Result<()> {
        let version = self.known(|known| known.version);
        if let Some(table) = store.tokens(version).await? {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            // Another call may have read a newer version meanwhile.
            if table.version > known.version {
                *known = table.into();
            }
        }
        Ok(())
    }

    /// Stores when tokens were used. A failure loses these times, and nothing else.
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

/// Keeps the tokens in memory up to date, and stores when tokens were used, until the service
/// stops.
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

/// Wrong tokens in the present window.
#[derive(Default)]
struct Guesses {
    since: Timestamp,
    by_address: HashMap<IpAddr, u32>,
}

impl Guesses {
    /// Counts one more wrong token of this address, and returns how many there were. If too many
    /// addresses are counted already, further ones are refused as if they had guessed too often,
    /// but without a line in the log.
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

/// All addresses of an IPv6 /64 network count as one, since a host usually has the whole network.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
