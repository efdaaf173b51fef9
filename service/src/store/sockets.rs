//! Finds the sockets that libpq keeps to itself, and shuts them down.
//!
//! Nothing that diesel shows of libpq ends a wait for an answer, but a shutdown of the socket does,
//! from any thread. The sockets of a new connection are those that were not there before and lead
//! to one of the database's ports. If two connections are made at the same moment, each may take
//! both sockets for its own. Then both are made anew where one would do.

use std::{collections::BTreeSet, fs, os::fd::RawFd, path::PathBuf};

use nix::sys::socket::{Shutdown, SockaddrStorage, getpeername, shutdown};

/// The folder in which Linux shows this process its open files.
const OPEN_FILES: &str = "/proc/self/fd";

/// A socket of this process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Socket {
    fd: RawFd,
    /// `socket:[INODE]`, which tells it from a later socket of the same number.
    name: PathBuf,
}

impl Socket {
    fn of(fd: RawFd) -> Option<Self> {
        let name = fs::read_link(format!("{OPEN_FILES}/{fd}")).ok()?;
        Some(Self { fd, name })
    }

    /// Ends all waits on the socket. Between the look and the shutdown libpq could close it, and a
    /// new connection could get its number: then that connection fails.
    pub(super) fn shut_down(&self) {
        if Self::of(self.fd).as_ref() != Some(self) {
            return;
        }
        if let Err(error) = shutdown(self.fd, Shutdown::Both) {
            tracing::debug!(%error, "a socket was shut down already");
        }
    }
}

/// The connected sockets that lead to one of these ports.
pub(super) fn leading_to(ports: &BTreeSet<u16>) -> BTreeSet<Socket> {
    let Ok(files) = fs::read_dir(OPEN_FILES) else {
        return BTreeSet::new();
    };
    let fds = files.filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok());
    let leading = fds.filter(|fd| port(*fd).is_some_and(|port| ports.contains(&port)));
    leading.filter_map(Socket::of).collect()
}

/// The port at the other end, if the file is a connected socket. Those of PostgreSQL in the file
/// system are named `.s.PGSQL.5432`.
fn port(fd: RawFd) -> Option<u16> {
    let peer: SockaddrStorage = getpeername(fd).ok()?;
    if let Some(address) = peer.as_sockaddr_in() {
        return Some(address.port());
    }
    if let Some(address) = peer.as_sockaddr_in6() {
        return Some(address.port());
    }
    peer.as_unix_addr()?.path()?.extension()?.to_str()?.parse().ok()
}

/// The ports that a PostgreSQL address names.
pub(super) fn ports(url: &str) -> BTreeSet<u16> {
    const USUAL: u16 = 5432;
    let place = url.split_once("://").map_or(url, |(_, place)| place);
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    let hosts = place.split_once('/').map_or(place, |(hosts, _)| hosts);
    let said = query.split('&').filter_map(|pair| pair.strip_prefix("port=")).flat_map(commas);
    // The port follows the last bracket of an IPv6 address, or the name of a host.
    let of_hosts = commas(hosts)
        .map(|host| host.rsplit_once(']').map_or(host, |(_, port)| port))
        .map(|host| host.rsplit_once(':').map_or("", |(_, port)| port));
    said.chain(of_hosts).map(|port| port.parse().unwrap_or(USUAL)).collect()
}

fn commas(text: &str) -> std::str::Split<'_, char> {
    text.split(',')
}

#[cfg(test)]
mod tests {
    use super::ports;

    #[test]
    fn ports_are_found_in_each_form_of_an_address() {
        for (url, expected) in [
            ("postgres://u:p%40x@a:6432/db?sslmode=require", vec![6432]),
            ("postgres://u@a/db", vec![5432]),
            ("postgres://u@[::1]:5433,b,[::2]/db", vec![5432, 5433]),
            ("postgres:///db?host=/run/postgresql&port=5434,5435", vec![5432, 5434, 5435]),
            ("postgresql://a:1,b:2", vec![1, 2]),
        ] {
            assert_eq!(ports(url).into_iter().collect::<Vec<_>>(), expected, "{url}");
        }
    }
}
