//! The settings for access to the service, for the executors that may be called, and for
//! encryption.

use std::{fmt, fs, path::Path};

use anyhow::{Context, bail};
use reqwest::Certificate;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::{Host, Url};

use super::{Bind, Config};
use crate::{
    api::Doors,
    domain::reach::{HostRule, Reach},
    tls::TlsFiles,
    vault::Vault,
};

/// A text that is shown neither in logs nor in lists of settings.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str("(hidden)")
    }
}

/// Reads a list, or one text with commas between the entries, which is easier in an environment
/// variable.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a list of texts, or one text with commas")]
    enum Texts {
        One(String),
        List(Vec<String>),
    }
    Ok(match Texts::deserialize(deserializer)? {
        Texts::One(text) => {
            let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
            entries.map(str::to_owned).collect()
        }
        Texts::List(list) => list,
    })
}

/// A shorter token might be guessed.
const ADMIN_TOKEN_BYTES_MIN: usize = 32;

impl Config {
    /// Checks all these settings, as far as that is possible without the files.
    pub(super) fn check_security(&self) -> anyhow::Result<()> {
        self.admin_token()?;
        self.tls()?;
        self.doors()?;
        self.executor_reach()?;
        for origin in &self.cors_origins {
            check_origin(origin)?;
        }
        if self.secrets_key.is_some() && self.secrets_key_file.is_some() {
            bail!("secrets_key and secrets_key_file are both set: put all keys into the file");
        }
        Ok(())
    }

    /// The configured token with all rights, from the setting or its file.
    pub fn admin_token(&self) -> anyhow::Result<Option<String>> {
        let (name, token) = match (&self.admin_token, &self.admin_token_file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => bail!("give admin_token or admin_token_file, not both"),
            (Some(token), None) => ("admin_token", token.expose().to_owned()),
            (None, Some(path)) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("cannot read admin_token_file {}", path.display()))?;
                ("admin_token_file", text)
            }
        };
        let token = token.trim();
        if token.len() < ADMIN_TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic())
        {
            bail!(
                "{name} needs {ADMIN_TOKEN_BYTES_MIN} visible ASCII characters or more, such as \
                 those of `openssl rand -hex 32`"
            );
        }
        Ok(Some(token.to_owned()))
    }

    /// The paths of certificate and key, if the service uses HTTPS.
    pub fn tls(&self) -> anyhow::Result<Option<TlsFiles>> {
        match (&self.tls_certificate, &self.tls_key) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) if matches!(self.bind, Bind::Socket(_)) => {
                bail!("TLS is not spoken on a Unix socket: take tls_certificate and tls_key away")
            }
            (Some(certificate), Some(key)) => {
                Ok(Some(TlsFiles { certificate: certificate.clone(), key: key.clone() }))
            }
            (Some(_), None) => bail!("tls_certificate is set, but tls_key is not"),
            (None, Some(_)) => bail!("tls_key is set, but tls_certificate is not"),
        }
    }

    /// Which clients may address the service by which host name.
    pub fn doors(&self) -> anyhow::Result<Doors> {
        let public = self.parsed_public_url()?;
        for host in &self.allowed_hosts {
            let name = host.strip_prefix("*.").unwrap_or(host);
            if name.contains(['*', '/']) || Host::parse(name).is_err() {
                bail!("allowed_hosts: {host:?} is not a host or *.domain (without a port)");
            }
        }
        Ok(Doors::new(self.bind.is_local(), public.as_ref(), &self.allowed_hosts)
            .with_origins(&self.cors_origins))
    }

    /// The addresses at which executors may be called.
    pub fn executor_reach(&self) -> anyhow::Result<Reach> {
        let rules = self.executor_hosts_allowed.iter().map(|text| text.parse::<HostRule>());
        let rules = rules.collect::<Result<_, _>>().map_err(anyhow::Error::msg);
        Ok(Reach::new(rules.context("executor_hosts_allowed")?))
    }

    /// The certificate authorities that are trusted for executors beside the machine's own.
    pub fn executor_authorities(&self) -> anyhow::Result<Vec<Certificate>> {
        let Some(file) = &self.executor_ca else {
            return Ok(Vec::new());
        };
        let read = || -> anyhow::Result<Vec<Certificate>> {
            let authorities = Certificate::from_pem_bundle(&fs::read(file)?)?;
            if authorities.is_empty() {
                bail!("there is no certificate in it");
            }
            Ok(authorities)
        };
        read().with_context(|| format!("executor_ca {} cannot be used", file.display()))
    }

    /// The keys that encrypt executors' secrets.
    pub fn vault(&self) -> anyhow::Result<Vault> {
        match (&self.secrets_key, &self.secrets_key_file) {
            (Some(key), _) => Vault::new(key.expose()).context("secrets_key cannot be used"),
            (None, Some(file)) => read_keys(file)
                .with_context(|| format!("secrets_key_file {} cannot be used", file.display())),
            (None, None) => Ok(Vault::default()),
        }
    }
}

fn read_keys(file: &Path) -> anyhow::Result<Vault> {
    Vault::new(&fs::read_to_string(file)?)
}

/// Checks that an origin is written as browsers write it, since it is compared as text.
fn check_origin(text: &str) -> anyhow::Result<()> {
    let as_browsers_write = |url: Url| url.origin().ascii_serialization() == text;
    if text != "*" && !Url::parse(text).is_ok_and(as_browsers_write) {
        bail!("cors_origins: {text:?} is not an origin such as https://app.example.org, or *");
    }
    Ok(())
}
