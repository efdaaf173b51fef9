//! The service's certificate: loads it, loads it again when its files change, and warns before it
//! expires.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context, bail};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_util::sync::CancellationToken;
use x509_parser::parse_x509_certificate;

use crate::{clock::Clock, domain::Timestamp, metrics::Metrics};

/// How often the files are checked for changes.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// A warning is logged if the certificate expires within this time. Most are renewed earlier.
const SOON: Duration = Duration::from_hours(30 * 24);

/// The paths of certificate and key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The contents of both files, or why they could not be read.
type Found = Result<(Vec<u8>, Vec<u8>), String>;

/// The certificate that the service presents now.
#[derive(Debug)]
pub struct Certificates {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: RwLock<Shown>,
    seen: Mutex<Seen>,
}

/// A certificate with its key, and the intermediate certificates up to its authority.
#[derive(Clone, Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    term: Term,
}

/// The period in which all certificates of the chain are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    pub begins: Timestamp,
    pub ends: Timestamp,
}

/// Whether a certificate is valid, and why it is not, or will not be for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Good {
    Yes,
    NotForLong(String),
    No(String),
}

impl Term {
    pub fn at(self, now: Timestamp) -> Good {
        let Self { begins, ends } = self;
        let left = Duration::try_from(ends.duration_since(now)).unwrap_or_default();
        if now < begins {
            return Good::No(format!("it is not good before {begins}"));
        }
        if left.is_zero() {
            return Good::No(format!("it ended at {ends}, and clients refuse it"));
        }
        if left < SOON {
            let days = left.as_secs() / (24 * 3_600);
            return Good::NotForLong(format!("it ends at {ends}, in {days} days: renew it"));
        }
        Good::Yes
    }
}

/// The contents of the files at the last look. They include the private key, so `Debug` hides them.
struct Seen(Found);

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seen(..)")
    }
}

impl Certificates {
    /// Reads the files. At the start of the service, they have to be valid.
    pub fn load(files: TlsFiles) -> anyhow::Result<Self> {
        // The same library as reqwest uses, so that the program has only one for cryptography.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let found = find(&files);
        let current = certified(&found, &provider)?;
        let (current, seen) = (RwLock::new(current), Mutex::new(Seen(found)));
        Ok(Self { files, provider, current, seen })
    }

    /// The TLS configuration of the server, for TLS 1.2 and 1.3. The HTTP server adds its protocols
    /// (ALPN).
    pub fn server_config(self: &Arc<Self>) -> anyhow::Result<ServerConfig> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        Ok(ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver))
    }

    /// The period in which the present certificate is valid.
    pub fn term(&self) -> Term {
        self.current.read().unwrap_or_else(PoisonError::into_inner).term
    }

    /// Shows in the metrics when the present certificate expires, and logs a warning if that is
    /// soon.
    fn tell_end(&self, metrics: &Metrics, now: Timestamp) {
        metrics.show_certificate(self.term().ends);
        if let Good::NotForLong(why) | Good::No(why) = self.term().at(now) {
            let certificate = self.files.certificate.display();
            tracing::warn!(%certificate, "the certificate has to be replaced: {why}");
        }
    }

    /// Checks the files until the service stops. If new files cannot be used, the old certificate
    /// stays, and one warning is logged.
    pub async fn follow(
        self: Arc<Self>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        stopping: CancellationToken,
    ) {
        self.tell_end(&metrics, clock.now());
        let mut again = tokio::time::interval(LOOK_PERIOD);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = again.tick() => {}
            }
            let looking = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || looking.look()).await {
                // A panic has been logged already; the next look may succeed.
                Ok(None) | Err(_) => {}
                Ok(Some(Ok(()))) => {
                    tracing::info!("there is a new certificate");
                    self.tell_end(&metrics, clock.now());
                }
                Ok(Some(Err(error))) => tracing::warn!(
                    error = format!("{error:#}"),
                    "the new certificate cannot be used: the old one stays"
                ),
            }
        }
    }

    /// Presents the certificate in the files from now on. `None` if the files have not changed
    /// since the last look.
    fn look(&self) -> Option<anyhow::Result<()>> {
        let found = find(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 == found {
            return None;
        }
        let certified = certified(&found, &self.provider);
        seen.0 = found;
        Some(certified.map(|certified| {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = certified;
        }))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

fn find(files: &TlsFiles) -> Found {
    let read = |file: &PathBuf| {
        fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))
    };
    Ok((read(&files.certificate)?, read(&files.key)?))
}

fn certified(found: &Found, provider: &CryptoProvider) -> anyhow::Result<Shown> {
    let (certificates, key) = found.as_ref().map_err(|why| anyhow::anyhow!(why.clone()))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<_, _>>()
        .context("tls_certificate is not PEM")?;
    if certificates.is_empty() {
        bail!("tls_certificate holds no certificate");
    }
    let key = PrivateKeyDer::from_pem_slice(key).context("tls_key holds no key as PEM")?;
    let term = term(&certificates).context("tls_certificate says no time for which it is good")?;
    let key = CertifiedKey::from_der(certificates, key, provider)
        .context("tls_key is not the key of tls_certificate")?;
    Ok(Shown { key: Arc::new(key), term })
}

/// The chain is valid only while each certificate is, since clients refuse it otherwise.
fn term(certificates: &[CertificateDer<'_>]) -> anyhow::Result<Term> {
    let mut term = Term { begins: Timestamp::MIN, ends: Timestamp::MAX };
    for certificate in certificates {
        let (_, parsed) = parse_x509_certificate(certificate)?;
        let validity = parsed.validity();
        term.begins = term.begins.max(Timestamp::from_second(validity.not_before.timestamp())?);
        term.ends = term.ends.min(Timestamp::from_second(validity.not_after.timestamp())?);
    }
    Ok(term)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Certificates, TlsFiles};

    fn write(folder: &Path, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_bad_new_certificate_is_told_once_and_the_old_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            certificate: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
        };
        assert!(Certificates::load(files.clone()).is_err(), "there are no files");
        write(folder.path(), "one.test");
        let certificates = Certificates::load(files.clone()).unwrap();
        let shown = || certificates.current.read().unwrap().key.cert.clone();
        let first = shown();
        assert!(certificates.look().is_none());

        let good = fs::read(&files.key).unwrap();
        for bad in [&b"nonsense"[..], b""] {
            fs::write(&files.key, bad).unwrap();
            assert!(certificates.look().is_some_and(|looked| looked.is_err()));
            assert!(certificates.look().is_none(), "said once");
        }
        let other = rcgen::generate_simple_self_signed(["x.test".to_owned()]).unwrap();
        fs::write(&files.key, other.signing_key.serialize_pem()).unwrap();
        let error = certificates.look().unwrap().unwrap_err();
        assert!(format!("{error:#}").contains("not the key of"), "{error:#}");
        fs::remove_file(&files.key).unwrap();
        assert!(certificates.look().is_some_and(|looked| looked.is_err()));
        assert_eq!(shown(), first);

        fs::write(&files.key, good).unwrap();
        assert!(certificates.look().is_some_and(|looked| looked.is_ok()));
        assert_eq!(shown(), first);
        write(folder.path(), "two.test");
        assert!(certificates.look().is_some_and(|looked| looked.is_ok()));
        assert_ne!(shown(), first);
        assert!(!format!("{certificates:?}").contains("PRIVATE"));
    }
}
