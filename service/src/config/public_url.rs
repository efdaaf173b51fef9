//! The URL at which executors and clients reach the service.

use anyhow::Context;
use url::Url;

use super::{Bind, Config};
use crate::api::Home;

impl Config {
    /// The setting `public_url`, parsed.
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

    /// The service's own URL, for links in answers.
    pub fn home(&self) -> anyhow::Result<Home> {
        Ok(Home::new(self.parsed_public_url()?.as_ref()))
    }

    /// The URL that is sent to executors, without a slash at its end. `listens` is the address on
    /// which the service listens, which is used if `public_url` is not set.
    pub fn public_url(&self, listens: &Bind) -> String {
        if let Some(url) = &self.public_url {
            return url.trim_end_matches('/').to_owned();
        }
        let scheme = if self.tls_certificate.is_some() { "https" } else { "http" };
        match listens {
            // An unspecified address cannot be called. Executors on the same machine can use this
            // one.
            Bind::Address(address) if address.ip().is_unspecified() => {
                format!("{scheme}://localhost:{}", address.port())
            }
            Bind::Address(address) => format!("{scheme}://{address}"),
            // A proxy in front of the socket may be there.
            Bind::Socket(_) => "http://localhost".to_owned(),
        }
    }

    /// Why executors, or those on other machines, cannot reach the service, if that is so.
    pub fn misses_public_url(&self) -> Option<String> {
        let who = match &self.bind {
            _ if self.public_url.is_some() => return None,
            Bind::Address(address) if !address.ip().is_unspecified() => return None,
            Bind::Address(_) => "only those on this machine reach",
            Bind::Socket(_) => "leads to no Unix socket",
        };
        Some(format!(
            "bind is {}, but public_url is not set: executors that answer 202 are told to report to {}, \
             which {who}",
            self.bind,
            self.public_url(&self.bind)
        ))
    }
}
