//! How executors and clients reach the service.

use std::net::SocketAddr;

use anyhow::Context;
use url::Url;

use super::Config;
use crate::api::Home;

impl Config {
    /// The setting `public_url`.
    pub(super) fn parsed_public_url(&self) -> anyhow::Result<Option<Url>> {
        let Some(text) = &self.public_url else {
            return Ok(None);
        };
        let url = Url::parse(text).ok();
        let url = url.filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"));
        let url = url.filter(|url| url.query().is_none() && url.fragment().is_none());
        url.with_context(|| {
            format!("public_url {text:?} is not an http or https URL (without a query)")
        })
        .map(Some)
    }

    /// What answers say of the service's own address.
    pub fn home(&self) -> anyhow::Result<Home> {
        Ok(Home::new(self.parsed_public_url()?.as_ref()))
    }

    /// The address that executors are told, for a service that listens there; without a slash at
    /// the end.
    pub fn public_url(&self, address: SocketAddr) -> String {
        if let Some(url) = &self.public_url {
            return url.trim_end_matches('/').to_owned();
        }
        let scheme = if self.tls_certificate.is_some() { "https" } else { "http" };
        if address.ip().is_unspecified() {
            // That is no address to call; executors on the same machine reach this one.
            return format!("{scheme}://localhost:{}", address.port());
        }
        format!("{scheme}://{address}")
    }

    /// Why executors on other machines would not find the service, if that is so.
    pub fn misses_public_url(&self) -> Option<String> {
        let is_missing = self.public_url.is_none() && self.bind.ip().is_unspecified();
        is_missing.then(|| {
            format!(
                "bind is {}, but public_url is not set: executors that answer 202 are told to report to \
                 {}, which only those on this machine reach",
                self.bind,
                self.public_url(self.bind)
            )
        })
    }
}
