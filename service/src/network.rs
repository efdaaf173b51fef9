//! Looks up where executors are, and refuses what must not be called: when they are registered,
//! and again each time that a connection is made, since a name may lead elsewhere by then.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::domain::{
    executor::CallUrl,
    reach::{Reach, Refusal},
};

/// How long a registration waits for a name to be looked up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Where executors may be called, and who knows their addresses.
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

    /// Like [`Network::new`], with names looked up elsewhere.
    pub fn with_resolver(reach: Reach, resolver: Arc<dyn Resolve>) -> Self {
        Self { reach, resolver }
    }

    /// Whether it may be called as far as its text tells. Nobody is asked for the address that
    /// stands in place of a name.
    pub fn check(&self, url: &CallUrl) -> Result<(), Refusal> {
        self.reach.check_url(url.as_url())
    }

    /// Whether it may be registered. A name that leads nowhere yet may be: it is looked up again
    /// for each call.
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

/// Refuses a name of which any address is refused: one that leads there at all was not chosen in
/// good faith.
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
