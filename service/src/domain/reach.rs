//! Which addresses executors may have: some are never called, and the setting
//! `executor_hosts_allowed` can restrict the others. Without that check, a registered URL could
//! make the service send requests to places that only the service can reach, such as a cloud's
//! credentials.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use thiserror::Error;
use url::{Host, Url};

/// Why an executor's address is not called.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The address is never called, whatever the settings.
    #[error("{0} is an address that is never called")]
    Never(IpAddr),
    /// The operator has not listed it in the setting, and could do so.
    #[error("{0} is not in executor_hosts_allowed")]
    NotAllowed(String),
}

/// The entries of `executor_hosts_allowed`. If there are none, every address may be called except
/// those of [`is_refused_address`].
#[derive(Clone, Debug, Default)]
pub struct Reach(Vec<HostRule>);

/// One entry of the list. Each entry allows more; none forbids anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// This host name, whatever addresses it resolves to.
    Name(String),
    /// The host names below this one, whatever addresses they resolve to.
    Below(String),
    /// The addresses of this network, and each host name that resolves to such addresses only.
    Network(IpNet),
}

impl Reach {
    pub fn new(rules: Vec<HostRule>) -> Self {
        Self(rules)
    }

    /// Checks the URL of an executor as far as it can be done without resolving its host name. The
    /// addresses to which the name resolves are checked by [`Reach::check_address`] at each call.
    pub fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.check_address("", address.into()),
            Some(Host::Ipv6(address)) => self.check_address("", address.into()),
            Some(Host::Domain(name)) if self.allows_name(name) || self.has_networks() => Ok(()),
            Some(Host::Domain(name)) => Err(Refusal::NotAllowed(name.to_owned())),
            None => Err(Refusal::NotAllowed(url.to_string())),
        }
    }

    /// Checks an address to which `name` resolves. `name` is empty if the URL holds the address
    /// itself.
    pub fn check_address(&self, name: &str, address: IpAddr) -> Result<(), Refusal> {
        if is_refused_address(address) {
            return Err(Refusal::Never(address));
        }
        if self.allows_name(name) || self.allows_address(address) {
            return Ok(());
        }
        Err(Refusal::NotAllowed(address.to_string()))
    }

    fn allows_name(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.0.is_empty()
            || self.0.iter().any(|rule| match rule {
                HostRule::Name(allowed) => allowed == name,
                HostRule::Below(allowed) => is_below(name, allowed),
                HostRule::Network(_) => false,
            })
    }

    fn allows_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks().any(|network| network.contains(&address))
    }

    fn has_networks(&self) -> bool {
        self.networks().next().is_some()
    }

    fn networks(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter().filter_map(|rule| match rule {
            HostRule::Network(network) => Some(network),
            HostRule::Name(_) | HostRule::Below(_) => None,
        })
    }
}

/// Whether `name` is `parent` with one or more labels in front.
pub fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
}

impl FromStr for HostRule {
    /// The mistake in the entry, for the operator.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            let network: IpNet =
                text.parse().map_err(|_malformed| format!("{text:?} is not a network"))?;
            return Ok(Self::Network(network.trunc()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.to_canonical().into()));
        }
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        match (Host::parse(rest), below) {
            (Ok(Host::Domain(name)), true) if !name.contains('*') => Ok(Self::Below(name)),
            (Ok(Host::Domain(name)), false) if !name.contains('*') => Ok(Self::Name(name)),
            (Ok(Host::Ipv6(address)), false) => Ok(Self::Network(IpAddr::V6(address).into())),
            _ => Err(format!("{text:?} is not a host, *.domain or network (without a port)")),
        }
    }
}

/// Addresses, beside the link-local ones, at which clouds hand out a machine's credentials:
/// Alibaba's, Azure's, and Oracle's.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// The same for IPv6: Google's and Scaleway's.
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254),
    Ipv6Addr::new(0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042),
];

/// Whether an address is never called: link-local addresses (RFC 3927, RFC 4291) and others at
/// which clouds hand out a machine's credentials, and addresses that do not name a single machine.
pub fn is_refused_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_refused_v4(v4),
        IpAddr::V6(v6) => match inner_v4(v6) {
            Some(v4) => is_refused_v4(v4),
            None => {
                v6.is_unicast_link_local()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || METADATA_V6.contains(&v6)
                    || is_of_aws(v6)
            }
        },
    }
}

fn is_refused_v4(v4: Ipv4Addr) -> bool {
    let this_network = v4.octets().first() == Some(&0);
    v4.is_link_local()
        || this_network
        || v4.is_broadcast()
        || v4.is_multicast()
        || METADATA_V4.contains(&v4)
}

/// AWS hands out credentials of machines, containers and pods at several addresses of this network.
fn is_of_aws(v6: Ipv6Addr) -> bool {
    matches!(v6.segments(), [0xfd00, 0x0ec2, ..])
}

/// The IPv4 address inside an IPv6 address that a translator would send on to it, if it is one: of
/// NAT64 (RFC 6052, RFC 8215), of stateless translators (RFC 2765), of 6to4 (RFC 3056), or in the
/// deprecated IPv4-compatible form (RFC 4291, section 2.5.5.1). Otherwise a refused IPv4 address
/// could be called in one of these forms.
fn inner_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    if v6.is_loopback() || v6.is_unspecified() {
        return None;
    }
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0, 0, 0, 0, 0xffff | 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{HostRule, Reach, Refusal, is_refused_address};

    #[test]
    fn b105_addresses_of_credentials_and_of_nobody_are_refused_in_every_form() {
        for refused in [
            "169.254.169.254",
            "169.254.0.1",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:42::42",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "239.255.255.255",
            "ff02::1",
            "255.255.255.255",
            "::ffff:169.254.169.254",
            "::ffff:100.100.100.200",
            "::ffff:0.0.0.0",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fd00:ec2::23",
            "64:ff9b:1::a9fe:a9fe",
            "::ffff:0:a9fe:a9fe",
            "::a9fe:a9fe",
        ] {
            assert!(is_refused_address(refused.parse().unwrap()), "{refused}");
        }
        for called in
            ["127.0.0.1", "::1", "10.1.2.3", "100.64.0.1", "192.0.2.1", "2001:db8::1", "fd00::1"]
        {
            assert!(!is_refused_address(called.parse().unwrap()), "{called}");
        }
    }

    fn reach(rules: &[&str]) -> Reach {
        Reach::new(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    #[test]
    fn each_entry_of_the_list_allows_something() {
        let url = |reach: &Reach, text: &str| reach.check_url(&text.parse().unwrap());
        let all = reach(&["tom.example.org", "*.obs.example", "10.0.0.0/8", "fd00::/8", "[::1]"]);
        for allowed in [
            "http://tom.example.org/",
            "http://TOM.example.org.:8000/",
            "https://a.b.obs.example/x",
            "http://10.9.8.7/",
            "http://[::ffff:10.9.8.7]/",
            "http://[fd00::1]/",
            "http://[::1]/",
            // Its addresses are checked when it is called.
            "http://other.example/",
        ] {
            assert_eq!(url(&all, allowed), Ok(()), "{allowed}");
        }
        for refused in ["http://11.0.0.1/", "http://[fc00::1]/", "http://127.0.0.1/"] {
            assert!(matches!(url(&all, refused), Err(Refusal::NotAllowed(_))), "{refused}");
        }
        let names = reach(&["tom.example.org", "*.obs.example"]);
        for refused in [
            "http://other.example/",
            "http://obs.example/",
            "http://evilobs.example/",
            "http://.obs.example/",
            "http://10.0.0.1/",
        ] {
            assert!(matches!(url(&names, refused), Err(Refusal::NotAllowed(_))), "{refused}");
        }
        let at =
            |reach: &Reach, name: &str, ip: &str| reach.check_address(name, ip.parse().unwrap());
        assert_eq!(at(&all, "other.example", "10.0.0.1"), Ok(()));
        assert!(at(&all, "other.example", "11.0.0.1").is_err());
        assert_eq!(at(&all, "tom.example.org", "11.0.0.1"), Ok(()), "a listed name is trusted");
        let metadata = "169.254.169.254".parse().unwrap();
        for open in [reach(&[]), reach(&["169.254.0.0/16", "tom.example.org"])] {
            assert_eq!(
                open.check_address("tom.example.org", metadata),
                Err(Refusal::Never(metadata)),
                "no setting opens it"
            );
        }
    }

    #[test]
    fn what_is_no_host_is_no_rule() {
        for bad in
            ["", "*", "a b", "tom.example.org:80", "10.0.0.0/33", "x/8", "*.10.0.0.1", "a.*.b"]
        {
            assert!(bad.parse::<HostRule>().is_err(), "{bad}");
        }
    }
}
