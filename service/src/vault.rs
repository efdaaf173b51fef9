//! Encrypts the secrets of executors before they are stored.
//!
//! The text in the database is `enc1:` and the base64 of a nonce and the ciphertext of
//! AES-256-GCM-SIV. The executor's name is authenticated with it, so that a text copied into
//! another executor's row cannot be decrypted.

use std::fmt;

use anyhow::{Context, bail};
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;

use crate::domain::executor::{Secret, StoredSecret};

const KEY_BYTES: usize = 32;

/// The operator's keys. Without any, secrets are stored in plain text.
#[derive(Default)]
pub struct Vault {
    /// The first key encrypts, and all keys decrypt. So a new key can be put first, and the old one
    /// removed later.
    keys: Vec<RandomizedNonceKey>,
}

/// Why a stored secret cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Locked {
    #[error("is encrypted, and neither secrets_key nor secrets_key_file is set")]
    NoKey,
    #[error("is encrypted with a key that is neither in secrets_key nor in secrets_key_file")]
    OtherKey,
    #[error("cannot be encrypted")]
    NotSealed,
}

impl Vault {
    /// Reads keys, one in each line, each the base64 of 32 bytes.
    pub fn new(lines: &str) -> anyhow::Result<Self> {
        let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys = lines
            .enumerate()
            .map(|(index, line)| key(line).with_context(|| format!("key {}", index + 1)));
        let keys: Vec<_> = keys.collect::<anyhow::Result<_>>()?;
        if keys.is_empty() {
            bail!("there is no key in it");
        }
        Ok(Self { keys })
    }

    /// Encrypts a secret for the row of this executor.
    pub fn seal(&self, executor: &str, secret: &Secret) -> Result<StoredSecret, Locked> {
        let Some(key) = self.keys.first() else {
            return Ok(StoredSecret::plain(secret));
        };
        let mut sealed = secret.expose().as_bytes().to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(executor), &mut sealed)
            .map_err(|_unspecified| Locked::NotSealed)?;
        let text = [nonce.as_ref().as_slice(), &sealed].concat();
        Ok(StoredSecret::encrypted(&STANDARD.encode(text)))
    }

    /// Decrypts a stored secret.
    pub fn open(&self, executor: &str, stored: &StoredSecret) -> Result<Secret, Locked> {
        let Some(text) = stored.as_encrypted() else {
            return stored.as_text().parse().map_err(|_invalid| Locked::OtherKey);
        };
        if self.keys.is_empty() {
            return Err(Locked::NoKey);
        }
        let sealed = STANDARD.decode(text).unwrap_or_default();
        let opened = self.keys.iter().find_map(|key| open(key, executor, &sealed));
        opened.ok_or(Locked::OtherKey)
    }

    /// The secret encrypted with the first key, or `None` if it is stored so already. For replacing
    /// keys.
    pub fn renew(
        &self,
        executor: &str,
        stored: &StoredSecret,
    ) -> Result<Option<StoredSecret>, Locked> {
        let secret = self.open(executor, stored)?;
        let Some(first) = self.keys.first() else {
            return Ok(None);
        };
        let sealed = stored.as_encrypted().and_then(|text| STANDARD.decode(text).ok());
        if sealed.is_some_and(|sealed| open(first, executor, &sealed).is_some()) {
            return Ok(None);
        }
        self.seal(executor, &secret).map(Some)
    }
}

fn key(line: &str) -> anyhow::Result<RandomizedNonceKey> {
    // The error shows neither the line nor the decoder's message, since both reveal parts of the
    // key.
    let bytes = STANDARD.decode(line).ok().filter(|bytes| bytes.len() == KEY_BYTES);
    let bytes = bytes.context("is not the base64 of 32 bytes (openssl rand -base64 32)")?;
    RandomizedNonceKey::new(&AES_256_GCM_SIV, &bytes)
        .map_err(|_unspecified| anyhow::anyhow!("cannot be used"))
}

fn open(key: &RandomizedNonceKey, executor: &str, sealed: &[u8]) -> Option<Secret> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut sealed = sealed.to_vec();
    let opened = key.open_in_place(nonce, Aad::from(executor), &mut sealed).ok()?;
    std::str::from_utf8(opened).ok()?.parse().ok()
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{Locked, Secret, StoredSecret, Vault};

    const OLD: &str = "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=";
    const NEW: &str = "bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=";

    fn secret() -> Secret {
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_for_its_executor_only() {
        let vault = Vault::new(OLD).unwrap();
        let sealed = vault.seal("tom", &secret()).unwrap();
        assert!(sealed.as_text().starts_with("enc1:"), "{}", sealed.as_text());
        assert_ne!(sealed, vault.seal("tom", &secret()).unwrap(), "a nonce of its own each time");
        assert_eq!(vault.open("tom", &sealed), Ok(secret()));
        assert_eq!(vault.open("other", &sealed), Err(Locked::OtherKey));
        assert_eq!(Vault::new(NEW).unwrap().open("tom", &sealed), Err(Locked::OtherKey));
        assert_eq!(Vault::default().open("tom", &sealed), Err(Locked::NoKey));
        let mut broken = sealed.as_text().to_owned();
        broken.replace_range(20..21, if broken.get(20..21) == Some("A") { "B" } else { "A" });
        let broken: StoredSecret = broken.parse().unwrap();
        assert_eq!(vault.open("tom", &broken), Err(Locked::OtherKey));
        assert_eq!(vault.open("tom", &"enc1:".parse().unwrap()), Err(Locked::OtherKey));
        assert_eq!(format!("{sealed:?} {vault:?}"), "StoredSecret(..) Vault(1 keys)");
    }

    #[test]
    fn keys_are_replaced_by_putting_a_new_one_first() {
        let plain = Vault::default().seal("tom", &secret()).unwrap();
        assert_eq!(plain.as_text(), secret().expose());
        assert_eq!(Vault::default().renew("tom", &plain), Ok(None));
        let old = Vault::new(OLD).unwrap().renew("tom", &plain).unwrap().unwrap();
        let both = Vault::new(&format!("{NEW}\n\n{OLD}\n")).unwrap();
        let new = both.renew("tom", &old).unwrap().unwrap();
        assert_eq!(both.renew("tom", &new), Ok(None), "nothing is left to do");
        assert_eq!(Vault::new(NEW).unwrap().open("tom", &new), Ok(secret()));
        assert_eq!(Vault::new(OLD).unwrap().open("tom", &new), Err(Locked::OtherKey));
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        for bad in ["", "\n", "secret words", "c2hvcnQ=", &format!("{OLD}\nnonsense")] {
            let error = format!("{:#}", Vault::new(bad).unwrap_err());
            assert!(!error.contains("words") && !error.contains("nonsense"), "{error}");
        }
    }
}
