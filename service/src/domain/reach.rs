//! Where executors may be called: what is never called, and what a setting allows.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use thiserror::Error;
use url::{Host, Url};

/// Why an executor is not called.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Nothing that changes can make it right.
    #[error("{0} is an address that is never called")]
    Never(IpAddr),
    /// The operator has not listed it, but may.
    #[error("{0} is not in executor_hosts_allowed")]
    NotAllowed(String),
}

/// The hosts of `executor_hosts_allowed`; where none is listed, all may be called but for
/// [`is_refused_address`].
#[derive(Clone, Debug, Default)]
pub struct Reach(Vec<HostRule>);

/// One entry: each allows something, none takes anything away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// This name, wherever it leads.
    Name(String),
    /// The names below it, wherever they lead.
    Below(String),
    /// These addresses, and every name that leads to nothing else.
    Network(IpNet),
}

impl Reach {
    pub fn new(rules: Vec<HostRule>) -> Self {
        Self(rules)
    }

    /// As far as the address of the executor tells. Where a name leads is asked by
    /// [`Reach::check_address`].
    pub fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.check_address("", address.into()),
            Some(Host::Ipv6(address)) => self.check_address("", address.into()),
            Some(Host::Domain(name)) if self.allows_name(name) || self.has_networks() => Ok(()),
            Some(Host::Domain(name)) => Err(Refusal::NotAllowed(name.to_owned())),
            None => Err(Refusal::NotAllowed(url.to_string())),
        }
    }

    /// An address to which a name leads, or which stands in place of a name.
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

/// Whether `name` has a label or more before `parent`.
pub fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
}

impl FromStr for HostRule {
    /// What is wrong, for whoever wrote the setting.
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

/// Where clouds hand out credentials, beside the link-local addresses: Alibaba, Azure's host, and
/// Oracle.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// The same of Google and Scaleway.
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254),
    Ipv6Addr::new(0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042),
];

/// Addresses that are never called: link-local ones (RFC 3927, RFC 4291) and others behind which
/// clouds keep the machine's credentials, and those that name no single machine.
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

/// AWS keeps credentials of machines, containers and pods at several addresses of one network.
fn is_of_aws(v6: Ipv6Addr) -> bool {
    matches!(v6.segments(), [0xfd00, 0x0ec2, ..])
}

/// The address that NAT64 (RFC 6052, RFC 8215), its translators (RFC 2765), 6to4 (RFC 3056) or
/// the form that was given up (RFC 4291, section 2.5.5.1) makes of it, if it is one of theirs.
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
            // Where it leads is seen when it is called.
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
