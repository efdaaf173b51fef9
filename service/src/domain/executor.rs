//! Executors: programs that run tasks. There are three kinds: HTTP servers that the service calls,
//! workers that ask the service for tasks, and plugins that the service runs itself.
//!
//! A [`Registration`] is set by the operator; an [`Executor`] adds what the service knows about it,
//! such as the [`Circuit`] that pauses deliveries while it cannot be reached.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use url::{Host, Url};

use super::{
    Invalid, Timestamp,
    grants::Grants,
    limits::{LEASE_SECONDS_MAX, RETRY_AFTER_MAX, TASK_PATHS_MAX, URL_CHARS_MAX},
    names::{ExecutorName, PluginName},
    plugin::ActiveVersion,
    reach::is_refused_address,
    route::Pattern,
    task::Options,
};

/// How many tasks of one executor run at once, unless its registration says otherwise. Not for
/// workers, which ask for as many tasks as they want.
pub const CONCURRENCY_DEFAULT: u32 = 10;
/// How long a lease lasts, unless the executor's registration says otherwise.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(30);

/// The key of a registered executor in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutorId(pub i64);

/// An executor as it was registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    pub name: ExecutorName,
    /// Empty for an executor of kind wasm, which serves the tasks that its plugin describes.
    pub task_paths: Vec<Pattern>,
    /// How many of its tasks may run at once; `None`: no limit.
    pub concurrency: Option<u32>,
    pub lease: Duration,
    pub defaults: Options,
    pub paused: bool,
    pub target: Target,
}

impl Registration {
    /// Checks the numbers. All else is checked when its types are made.
    pub fn checked(self) -> Result<Self, Invalid> {
        let paths = self.task_paths.len();
        let least = if let Target::Wasm { .. } = self.target { 0 } else { 1 };
        if !(least..=TASK_PATHS_MAX).contains(&paths) {
            let reason = format!("needs {least} to {TASK_PATHS_MAX} entries, has {paths}");
            return Err(Invalid::new("task_paths", reason));
        }
        let lease_seconds = self.lease.as_secs();
        if lease_seconds == 0 || lease_seconds > u64::from(LEASE_SECONDS_MAX) {
            return Err(Invalid::new("lease_seconds", format!("must be 1 to {LEASE_SECONDS_MAX}")));
        }
        Ok(self)
    }
}

/// The kind of an executor, and what is needed to reach it. The numbers of [`Target::kind_number`]
/// are stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The service calls it over HTTP.
    Http {
        url: CallUrl,
        secret: StoredSecret,
        previous_secret: Option<StoredSecret>,
        /// Whether it sends the task's id with each answer. Then an answer without the id comes
        /// from another server at its address.
        echoes_task_id: bool,
    },
    /// It asks the service for tasks.
    Worker,
    /// The service runs it itself, as a plugin in a sandbox.
    Wasm { plugin: PluginName, memory_mib: u32, grants: Grants },
}

impl Target {
    pub fn kind_number(&self) -> i16 {
        match self {
            Self::Http { .. } => 0,
            Self::Worker => 1,
            Self::Wasm { .. } => 2,
        }
    }

    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::Worker => "worker",
            Self::Wasm { .. } => "wasm",
        }
    }

    /// Whether its tasks wait until a worker asks for them.
    pub fn is_worker(&self) -> bool {
        match self {
            Self::Http { .. } | Self::Wasm { .. } => false,
            Self::Worker => true,
        }
    }

    /// The limit of tasks that run at once if the registration has none: none for workers, since
    /// they ask for as many as they want.
    pub fn concurrency_default(&self) -> Option<u32> {
        (!self.is_worker()).then_some(CONCURRENCY_DEFAULT)
    }
}

/// A URL that the service may call: http or https, with a host, without user name and password, and
/// not at an address that is never called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallUrl(Url);

impl CallUrl {
    pub fn as_url(&self) -> &Url {
        &self.0
    }
}

impl FromStr for CallUrl {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refused = |reason: &str| Err(Invalid::new("url", reason));
        if text.len() > URL_CHARS_MAX {
            return refused("is too long");
        }
        let Ok(url) = Url::parse(text) else {
            return refused("is not an absolute URL");
        };
        if !matches!(url.scheme(), "http" | "https") {
            return refused("must be http or https");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("must not hold a user name or a password");
        }
        let address = match url.host() {
            None => return refused("needs a host"),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        };
        if address.is_some_and(is_refused_address) {
            return refused("is an address that is never called");
        }
        Ok(Self(url))
    }
}

impl CallUrl {
    /// Reads a URL that was accepted when it was stored. Newer versions of the service may refuse
    /// more addresses; each call checks that again.
    pub fn from_stored(text: &str) -> Option<Self> {
        Url::parse(text).ok().filter(Url::has_host).map(Self)
    }
}

/// A signing secret as Standard Webhooks defines it: `whsec_` and the base64 of 24 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub const PREFIX: &str = "whsec_";

    /// The secret itself. For the store and the signing code only, never for an answer or a log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let key = text.strip_prefix(Self::PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
        if key.is_some_and(|key| (24..=64).contains(&key.len())) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new("secret", "must be whsec_ and the base64 of 24 to 64 bytes"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A secret as it is stored: in plain text, or encrypted with the operator's key.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredSecret(String);

impl StoredSecret {
    const ENCRYPTED: &str = "enc1:";

    pub fn plain(secret: &Secret) -> Self {
        Self(secret.0.clone())
    }

    pub fn encrypted(base64: &str) -> Self {
        Self(format!("{}{base64}", Self::ENCRYPTED))
    }

    /// For the store, and for the code that decrypts it.
    pub fn as_text(&self) -> &str {
        &self.0
    }

    /// The base64 of the encrypted secret, if it is encrypted.
    pub fn as_encrypted(&self) -> Option<&str> {
        self.0.strip_prefix(Self::ENCRYPTED)
    }
}

impl FromStr for StoredSecret {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.starts_with(Self::ENCRYPTED) {
            return Ok(Self(text.to_owned()));
        }
        text.parse().map(|secret| Self::plain(&secret))
    }
}

impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredSecret(..)")
    }
}

/// A registered executor, and its present state.
#[derive(Clone, Debug)]
pub struct Executor {
    pub id: ExecutorId,
    pub registration: Registration,
    /// The active version of its plugin, if it is of kind wasm.
    pub version: Option<ActiveVersion>,
    pub circuit: Circuit,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Executor {
    /// The default options of its tasks with this path. Each option is the executor's own, or else
    /// its plugin's.
    pub fn defaults_for(&self, task_path: &str) -> Options {
        let described = self.version.as_ref().and_then(|version| version.defaults.get(task_path));
        self.registration.defaults.or(described.copied().unwrap_or_default())
    }
}

/// Whether tasks are delivered to an executor (a circuit breaker).
///
/// It opens when a delivery fails: no task is sent for some time, which grows with each failure in
/// a row. Then tasks are sent one at a time, as probes. When the executor answers a probe,
/// deliveries go on as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circuit {
    /// How many deliveries have failed in a row.
    pub failures: u32,
    /// When the last of these failures happened.
    pub failed_at: Option<Timestamp>,
    /// Until then, no task is sent.
    pub held_until: Option<Timestamp>,
    pub reason: Option<String>,
}

impl Circuit {
    const HOLD_FIRST: Duration = Duration::from_millis(100);
    const HOLD_MAX: Duration = Duration::from_mins(1);

    pub fn is_open(&self, now: Timestamp) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// Whether a task that is sent now is a probe.
    pub fn is_probing(&self) -> bool {
        self.failures > 0
    }

    /// How many more tasks may be sent while `in_flight` run.
    pub fn room(&self, now: Timestamp, concurrency: Option<u32>, in_flight: u32) -> u32 {
        let room = concurrency.map_or(u32::MAX, |limit| limit.saturating_sub(in_flight));
        if self.is_open(now) {
            0
        } else if self.is_probing() {
            room.min(1)
        } else {
            room
        }
    }

    /// The circuit after a delivery failed that began at `started_at`. A delivery that was already
    /// on its way when the last failure happened says nothing new, so it does not count as one more
    /// in a row.
    #[must_use]
    pub fn after_failure(
        &self,
        now: Timestamp,
        started_at: Timestamp,
        reason: &str,
        retry_after: Option<Duration>,
    ) -> Self {
        let is_new = self.failed_at.is_none_or(|failed_at| failed_at < started_at);
        let mut after = self.clone();
        if is_new {
            after.failures = self.failures.saturating_add(1);
            after.failed_at = Some(now);
        }
        let hold = after.backoff().max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX));
        after.reason = Some(reason.to_owned());
        after.held_for(now, hold)
    }

    /// The circuit after a probe was sent. The next probe waits for the answer to this one, but at
    /// most for as long as a failure would have held it back.
    #[must_use]
    pub fn after_probe(&self, now: Timestamp) -> Self {
        self.clone().held_for(now, self.backoff())
    }

    fn backoff(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        (Self::HOLD_FIRST * (1 << doublings)).min(Self::HOLD_MAX)
    }

    fn held_for(mut self, now: Timestamp, hold: Duration) -> Self {
        let until = now.saturating_add(hold).unwrap_or(now);
        self.held_until = self.held_until.max(Some(until));
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CallUrl, Circuit, Secret, Timestamp};

    #[test]
    fn b105_link_local_addresses_are_refused() {
        for bad in [
            "http://169.254.169.254/latest/meta-data",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fd00:ec2::254]/",
            "http://0.0.0.0/",
            "http://2852039166/",
            "ftp://example.org/",
            "http://user:word@example.org/",
            "/tasks",
            "",
        ] {
            assert!(bad.parse::<CallUrl>().is_err(), "{bad}");
        }
        for good in ["http://127.0.0.1:9000/tasks", "https://tom.example.org/x?y", "http://[::1]/"]
        {
            assert!(good.parse::<CallUrl>().is_ok(), "{good}");
        }
    }

    #[test]
    fn a_secret_is_standard_webhooks_and_never_shown() {
        let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_?"] {
            assert!(bad.parse::<Secret>().is_err(), "{bad}");
        }
    }

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn failed(circuit: &Circuit, now: Timestamp, started_at: Timestamp) -> Circuit {
        circuit.after_failure(now, started_at, "refused", None)
    }

    #[test]
    fn b69_an_executor_that_says_later_is_left_alone_until_then() {
        let after = |seconds| START + Duration::from_secs(seconds);
        let retry_after = Some(Duration::from_secs(5));
        let open = Circuit::default().after_failure(START, START, "429", retry_after);
        assert_eq!(open.room(after(4), Some(50), 0), 0);
        assert_eq!(open.room(after(5), Some(50), 20), 1, "one probe, whatever runs besides");
        assert_eq!(open.room(after(5), Some(20), 20), 0);
        assert_eq!(open.after_probe(after(5)).room(after(5), Some(50), 21), 0, "no second one");
        assert_eq!(open.after_probe(after(5)).room(after(6), Some(50), 21), 1, "but later");
        assert_eq!(Circuit::default().room(after(5), Some(50), 20), 30);
    }

    #[test]
    fn the_hold_doubles_and_what_was_on_its_way_counts_once() {
        let first = failed(&Circuit::default(), START, START);
        assert_eq!(failed(&first, START, START).failures, 1);
        let mut circuit = first;
        for _ in 0..20 {
            let now = circuit.held_until.unwrap();
            circuit = failed(&circuit.after_probe(now), now, now);
            assert!(circuit.held_until.unwrap().duration_since(now).as_secs() <= 60);
        }
        assert_eq!(circuit.failures, 21);
    }
}
