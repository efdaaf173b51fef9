//! Grants let a plugin reach things outside of its sandbox: hosts, directories and environment
//! variables, as an executor's registration names them.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use url::{Host, Url};

use super::{
    Invalid,
    limits::{ENVIRONMENT_BYTES_MAX, ENVIRONMENT_NAME_CHARS_MAX, GRANTS_MAX},
    names::DirectoryName,
    reach::is_refused_address,
};

/// The hosts, directories and environment variables that an executor grants its plugin. By default
/// there are none.
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

// Without the values of the environment, which may be secrets.
impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants")
            .field("http", &self.http)
            .field("directories", &self.directories)
            .field("environment", &self.environment.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// A host that a plugin may send HTTP requests to: `api.example.org`, `*.example.org`,
/// `example.org:8443`, `127.0.0.1:8000`. Without a port, the default port of the scheme is granted.
///
/// A host name is used only if it resolves to public addresses, since the owner of its domain
/// decides where it points. A host in a private network has to be granted by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHost {
    /// Grants hosts below this one, but not this one itself.
    below: bool,
    host: Host,
    port: Option<u16>,
}

impl HttpHost {
    /// Whether a request to this URL is granted.
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
        // The parser drops a port that is the default of `http`, but `:80` was written on purpose:
        // it grants port 80 for `https`, too.
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

#[cfg(test)]
mod tests {
    use super::HttpHost;

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
}
