//! Resolves host names for plugins, and refuses those that have other than public addresses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

use crate::waiters::Waiters;

/// A host name resolves to an address that is not public. It is refused, because the owner of the
/// name could make it point to any machine in the private network. A granted literal address is not
/// resolved, and so is not affected.
#[derive(Clone, Copy, Debug, Error)]
#[error("the host's name leads to {0}, which is no public address: grant the address itself")]
pub(crate) struct NotPublic(IpAddr);

/// Resolves names on the threads of one executor. If a name server answers slowly, or never, only
/// that executor has to wait.
pub(crate) struct PublicOnly(pub(crate) Waiters);

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let threads = self.0.clone();
        Box::pin(async move {
            let look_up = move || (name.as_str(), 0).to_socket_addrs();
            let found: Vec<SocketAddr> = threads.call(look_up).await??.collect();
            if let Some(private) = found.iter().find(|address| !is_public(address.ip())) {
                return Err(NotPublic(private.ip()).into());
            }
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

/// Whether the address can be reached from the whole internet, by IANA's registries of special
/// addresses (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        // Azure's host.
        IpAddr::V4(v4) if v4.octets() == [168, 63, 129, 16] => false,
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let protocol = a == 192 && b == 0 && c == 0;
            let benchmark = a == 198 && (18..20).contains(&b);
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_documentation()
                || a == 0
                || a >= 240
                || shared
                || protocol
                || benchmark)
        }
        IpAddr::V6(v6) => match v6.segments() {
            // NAT64 (RFC 6052) and 6to4 (RFC 3056) addresses stand for the IPv4 address inside.
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                is_public(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low).to_canonical())
            }
            // Teredo and other protocols in 2001::/23, and addresses for documentation.
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
            // Global unicast.
            [first, ..] => (0x2000..0x4000).contains(&first),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[test]
    fn private_and_special_addresses_are_told_from_public_ones() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
            "168.63.129.16",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
