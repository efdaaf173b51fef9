//! Resolves the host names of executors, and refuses addresses that must not be called.
//!
//! Addresses are checked when an executor is registered, and again whenever a connection is made,
//! since a name may resolve to other addresses by then.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::domain::{
    executor::CallUrl,
    reach::{Reach, Refusal},
};

/// How long a registration waits for the resolver.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The addresses that may be called, and the resolver of host names.
#[derive(Clone)]
pub struct Network {
    reach: Reach,
    resolver: Arc<dyn Resolve>,
}

impl Network {
    /// With the machine's own resolver.
    pub fn new(reach: Reach) -> Self {
        Self::with_resolver(reach, Arc::new(SystemResolver))
    }

    /// With another resolver, for tests.
    pub fn with_resolver(reach: Reach, resolver: Arc<dyn Resolve>) -> Self {
        Self { reach, resolver }
    }

    /// Checks a URL without resolving its host name. A literal address can be checked at once;
    /// names are checked by `resolve`.
    pub fn check(&self, url: &CallUrl) -> Result<(), Refusal> {
        self.reach.check_url(url.as_url())
    }

    /// Checks the URL of an executor that is to be registered. A name that does not resolve is
    /// accepted, since it is resolved and checked again for each call.
    pub async fn admit(&self, url: &CallUrl) -> Result<(), Refusal> {
        self.check(url)?;
        let Some(name) = url.as_url().domain().and_then(|name| name.parse::<Name>().ok()) else {
            return Ok(());
        };
        let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, self.resolve(name));
        match lookup.await {
            Ok(Err(error)) => match error.downcast::<Refusal>() {
                Ok(refusal) => Err(*refusal),
                Err(_unknown_name) => Ok(()),
            },
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}

/// Refuses a name if any of its addresses is refused: no honest name has such an address among
/// others.
impl Resolve for Network {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let resolving = self.resolver.resolve(name);
        let reach = self.reach.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = resolving.await?.collect();
            for address in &found {
                reach.check_address(&host, address.ip())?;
            }
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

/// The machine's own resolver.
struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}
