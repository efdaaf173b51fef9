use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    net::IpAddr,
    str::FromStr,
};

use url::{Host, Url};

use super::{
    Invalid, Timestamp,
    executor::is_refused_address,
    limits::{
        DESCRIPTION_BYTES_MAX, ENVIRONMENT_BYTES_MAX, ENVIRONMENT_NAME_CHARS_MAX, GRANTS_MAX,
        MEMORY_MIB_MAX, MEMORY_MIB_MIN, SUMMARY_CHARS_MAX, TASK_PATHS_MAX, storable,
    },
    names::{DirectoryName, PluginName, TaskPath},
    task::Options,
};

/// Memory of one run, unless the executor says otherwise.
pub const MEMORY_MIB_DEFAULT: u32 = 128;

/// SHA-256 of a component: what is the same has the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let malformed = || Invalid::new("digest", "must be 64 hexadecimal digits");
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(malformed());
        }
        let half = |range| u128::from_str_radix(text.get(range)?, 16).ok();
        let (Some(high), Some(low)) = (half(0..32), half(32..64)) else {
            return Err(malformed());
        };
        let mut digest = [0; 32];
        let (first, second) = digest.split_at_mut(16);
        first.copy_from_slice(&high.to_be_bytes());
        second.copy_from_slice(&low.to_be_bytes());
        Ok(Self(digest))
    }
}

/// A task that a plugin runs, in its own words, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginTask {
    pub path: TaskPath,
    /// One line.
    pub summary: String,
    /// Markdown.
    pub description: Option<String>,
    /// What holds where neither the task nor its executor says otherwise.
    pub defaults: Options,
}

impl PluginTask {
    /// With its texts as the store can hold them.
    pub fn checked(self) -> Result<Self, Invalid> {
        let summary = storable(&self.summary).into_owned();
        let characters = summary.chars().count();
        if characters > SUMMARY_CHARS_MAX || summary.chars().any(char::is_control) {
            let reason = format!("must be one line of at most {SUMMARY_CHARS_MAX} characters");
            return Err(Invalid::new("summary", reason));
        }
        let description = self.description.map(|text| storable(&text).into_owned());
        if description.as_ref().is_some_and(|text| text.len() > DESCRIPTION_BYTES_MAX) {
            let reason = format!("has more than {DESCRIPTION_BYTES_MAX} bytes");
            return Err(Invalid::new("description", reason));
        }
        Ok(Self { summary, description, ..self })
    }
}

/// What a plugin says it can do: 1 to 1,000 tasks, each once.
#[derive(Clone, Debug, PartialEq)]
pub struct Description(Vec<PluginTask>);

impl Description {
    pub fn new(tasks: Vec<PluginTask>) -> Result<Self, Invalid> {
        let number = tasks.len();
        if number == 0 || number > TASK_PATHS_MAX {
            let reason = format!("must be 1 to {TASK_PATHS_MAX}, not {number}");
            return Err(Invalid::new("tasks", reason));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = tasks.iter().find(|task| !seen.insert(task.path.as_str())) {
            return Err(Invalid::new("tasks", format!("name {} twice", twice.path)));
        }
        Ok(Self(tasks))
    }

    pub fn tasks(&self) -> &[PluginTask] {
        &self.0
    }
}

/// A component that was installed under a plugin's name.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginVersion {
    pub digest: Digest,
    pub bytes: u64,
    pub description: Description,
    pub installed_at: Timestamp,
}

/// An installed plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    pub name: PluginName,
    /// The one that new attempts run.
    pub active: Digest,
    /// Newest first.
    pub versions: Vec<PluginVersion>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Plugin {
    pub fn active_version(&self) -> Option<&PluginVersion> {
        self.versions.iter().find(|version| version.digest == self.active)
    }
}

/// A component and what it says of itself, ready to be stored.
#[derive(Clone)]
pub struct NewPlugin {
    pub name: PluginName,
    pub digest: Digest,
    pub description: Description,
    pub component: bytes::Bytes,
}

/// What an executor runs of its plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveVersion {
    pub digest: Digest,
    /// Of each task that the plugin describes, by its path.
    pub defaults: HashMap<String, Options>,
}

impl From<&PluginVersion> for ActiveVersion {
    fn from(version: &PluginVersion) -> Self {
        let defaults = |task: &PluginTask| (task.path.as_str().to_owned(), task.defaults);
        Self {
            digest: version.digest,
            defaults: version.description.tasks().iter().map(defaults).collect(),
        }
    }
}

/// What an executor's plugin may reach; by default nothing.
#[derive(Clone, Default, PartialEq)]
pub struct Grants {
    pub http: Vec<HttpHost>,
    pub directories: Vec<DirectoryName>,
    /// The values may be secrets.
    pub environment: BTreeMap<String, String>,
}

impl Grants {
    pub fn checked(self) -> Result<Self, Invalid> {
        for (field, number) in [
            ("grants/http", self.http.len()),
            ("grants/directories", self.directories.len()),
            ("grants/environment", self.environment.len()),
        ] {
            if number > GRANTS_MAX {
                return Err(Invalid::new(field, format!("may have {GRANTS_MAX} entries")));
            }
        }
        for (name, value) in &self.environment {
            let odd = |c: char| c == '=' || c.is_control() || c.is_whitespace();
            let characters = name.chars().count();
            if characters == 0 || characters > ENVIRONMENT_NAME_CHARS_MAX || name.contains(odd) {
                let reason = format!("has the unusable name {name:?}");
                return Err(Invalid::new("grants/environment", reason));
            }
            if value.len() > ENVIRONMENT_BYTES_MAX || value.contains('\0') {
                let reason = format!("{name} must have at most {ENVIRONMENT_BYTES_MAX} bytes");
                return Err(Invalid::new("grants/environment", reason));
            }
        }
        Ok(self)
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants")
            .field("http", &self.http)
            .field("directories", &self.directories)
            .field("environment", &self.environment.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// Where a plugin may send HTTP requests: `api.example.org`, `*.example.org`,
/// `example.org:8443`, `127.0.0.1:8000`. Without a port, the scheme's own.
///
/// A name must lead to public addresses, since its owner decides where it leads; one of a private
/// network has to be granted as an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHost {
    /// Below the host, not the host itself.
    below: bool,
    host: Host,
    port: Option<u16>,
}

impl HttpHost {
    pub fn allows(&self, url: &Url) -> bool {
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return false;
        };
        let wanted = self.port.or(match url.scheme() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        });
        if wanted != Some(port) {
            return false;
        }
        match (&self.host, host) {
            (Host::Domain(granted), Host::Domain(asked)) if self.below => asked
                .strip_suffix(granted.as_str())
                .is_some_and(|below| below.len() > 1 && below.ends_with('.')),
            (granted, asked) => *granted == asked.to_owned(),
        }
    }
}

impl FromStr for HttpHost {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refused = |reason: &str| Err(Invalid::new("grants/http", format!("{text:?} {reason}")));
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let Ok(url) = Url::parse(&format!("http://{rest}/")) else {
            return refused("is not a host, with or without a port");
        };
        let plain = rest.chars().all(|c| c.is_alphanumeric() || ".-:[]".contains(c));
        let Some(host) = url.host().map(|host| host.to_owned()).filter(|_| plain) else {
            return refused("is not a host, with or without a port");
        };
        let address = match &host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::V4(*address)),
            Host::Ipv6(address) => Some(IpAddr::V6(*address)),
        };
        if address.is_some_and(is_refused_address) {
            return refused("is a link-local address, which is never called");
        }
        if below && address.is_some() {
            return refused("has no hosts below it");
        }
        // The parser leaves out the scheme's own port, which it may well name.
        let named = rest.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        let port = named.and_then(|(_, port)| port.parse().ok()).or_else(|| url.port());
        Ok(Self { below, host, port })
    }
}

impl fmt::Display for HttpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.below { "*." } else { "" };
        write!(f, "{below}{}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Checks how much memory a run may have.
pub fn memory_mib(number: i64) -> Result<u32, Invalid> {
    u32::try_from(number)
        .ok()
        .filter(|mib| (MEMORY_MIB_MIN..=MEMORY_MIB_MAX).contains(mib))
        .ok_or_else(|| {
            let reason = format!("must be {MEMORY_MIB_MIN} to {MEMORY_MIB_MAX}");
            Invalid::new("memory_mib", reason)
        })
}

#[cfg(test)]
mod tests {
    use super::{Digest, HttpHost};

    fn allows(granted: &str, url: &str) -> bool {
        granted.parse::<HttpHost>().unwrap().allows(&url.parse().unwrap())
    }

    #[test]
    fn a_host_is_granted_with_the_ports_of_its_schemes() {
        assert!(allows("api.example.org", "https://api.example.org/x"));
        assert!(allows("api.example.org", "http://API.example.org/x"));
        assert!(!allows("api.example.org", "https://api.example.org:8443/x"));
        assert!(!allows("api.example.org", "http://api.example.org:443/x"));
        assert!(!allows("api.example.org", "https://example.org/"));
        assert!(!allows("api.example.org", "https://evil-api.example.org/"));
        assert!(!allows("api.example.org", "https://api.example.org.evil.org/"));
        assert!(!allows("api.example.org", "https://api.example.org@evil.org/"));
    }

    #[test]
    fn a_port_is_granted_alone() {
        assert!(allows("example.org:8443", "https://example.org:8443/"));
        assert!(!allows("example.org:8443", "https://example.org/"));
        assert!(allows("example.org:80", "http://example.org/"));
        assert!(!allows("example.org:80", "https://example.org/"));
        assert!(allows("127.0.0.1:8000", "http://127.0.0.1:8000/"));
        assert!(allows("[::1]:8000", "http://[::1]:8000/"));
        assert!(!allows("[::1]", "http://[::1]:8000/"));
    }

    #[test]
    fn a_star_grants_what_lies_below() {
        assert!(allows("*.example.org", "https://a.example.org/"));
        assert!(allows("*.example.org", "https://a.b.example.org/"));
        assert!(!allows("*.example.org", "https://example.org/"));
        assert!(!allows("*.example.org", "https://badexample.org/"));
        assert!(!allows("*.example.org", "https://.example.org/"));
    }

    #[test]
    fn odd_hosts_are_refused() {
        for odd in [
            "",
            "*",
            "a/b",
            "http://a",
            "user@a",
            "a b",
            "a:x",
            "a:99999",
            "169.254.169.254",
            "*.10.0.0.1",
            "a?b",
            "a#b",
            "0.0.0.0",
        ] {
            assert!(odd.parse::<HttpHost>().is_err(), "{odd}");
        }
    }

    #[test]
    fn a_grant_survives_its_text() {
        for text in ["api.example.org", "*.example.org:8443", "127.0.0.1:80", "[::1]:8000"] {
            assert_eq!(text.parse::<HttpHost>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_digest_survives_its_text() {
        let digest = Digest(std::array::from_fn(|index| u8::try_from(index * 8).unwrap()));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for odd in ["", "12", &"g".repeat(64), &"+".repeat(64)] {
            assert!(odd.parse::<Digest>().is_err(), "{odd}");
        }
    }
}
