//! Looks names up, and refuses those that lead to an address which is never called.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

use crate::domain::executor::is_refused_address;

/// The name leads where machines keep their credentials.
#[derive(Debug, Error)]
#[error("its name leads to the link-local address {0}")]
pub(super) struct RefusedAddress(IpAddr);

/// The machine's own resolver.
#[derive(Debug)]
pub(super) struct SystemResolver;

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

/// Asks another resolver, and refuses a name of which any address is refused: one that leads
/// there at all was not chosen in good faith.
pub(super) struct Checked(pub(super) Arc<dyn Resolve>);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let resolving = self.0.resolve(name);
        Box::pin(async move {
            let found: Vec<SocketAddr> = resolving.await?.collect();
            if let Some(refused) = found.iter().find(|address| is_refused_address(address.ip())) {
                return Err(RefusedAddress(refused.ip()).into());
            }
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}
