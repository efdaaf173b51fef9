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
    circuit::Circuit,
    grants::Grants,
    limits::{LEASE_SECONDS_MAX, TASK_PATHS_MAX, URL_CHARS_MAX},
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

#[cfg(test)]
mod tests {
    use super::{CallUrl, Secret};

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
}
