//! The address or socket on which the service listens.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// The prefix of a socket's path.
const SOCKET: &str = "unix:";

/// An address or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    Address(SocketAddr),
    /// The path of a Unix socket.
    Socket(PathBuf),
}

impl Bind {
    /// Whether only programs on this machine can connect.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Address(address) => address.ip().is_loopback(),
            Self::Socket(_) => true,
        }
    }

    /// How clients name a service that listens there.
    pub fn server(&self, scheme: &str) -> String {
        match self {
            Self::Address(address) => format!("{scheme}://{address}"),
            Self::Socket(_) => self.to_string(),
        }
    }
}

/// Reads an address with a port, or a socket. Host names are not resolved, except `localhost`.
impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(SOCKET).filter(|path| !path.is_empty()) {
            return Ok(Self::Socket(path.into()));
        }
        let port = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        match (port, text.parse()) {
            (Some(port), _) => Ok(Self::Address((Ipv4Addr::LOCALHOST, port).into())),
            (None, Ok(address)) => Ok(Self::Address(address)),
            (None, Err(_malformed)) => Err(format!(
                "{text:?} is no address with a port, such as 127.0.0.1:8700 (this machine alone), \
                 0.0.0.0:8700 (all that reach it) or [::1]:8700, and no socket (unix:/PATH)"
            )),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Socket(path) => write!(f, "{SOCKET}{}", path.display()),
        }
    }
}

impl Serialize for Bind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
