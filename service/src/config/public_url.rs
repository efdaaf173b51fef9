//! How executors reach the service.

use std::net::SocketAddr;

use super::Config;

impl Config {
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
