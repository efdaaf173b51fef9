//! A service that speaks TLS.

use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use reqwest::Certificate;

use super::app::Builder;

/// Writes a new certificate for this machine, and returns it.
pub fn certify(folder: &Path) -> Certificate {
    certify_until(folder, (4096, 1, 1))
}

/// The same for a certificate that ends on a day.
pub fn certify_until(folder: &Path, (year, month, day): (i32, u8, u8)) -> Certificate {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut wanted = CertificateParams::new(names).unwrap();
    wanted.not_after = date_time_ymd(year, month, day);
    let key = KeyPair::generate().unwrap();
    let made = wanted.self_signed(&key).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    fs::write(folder.join("cert.pem"), made.pem()).unwrap();
    Certificate::from_pem(made.pem().as_bytes()).unwrap()
}

/// Shows the certificate of this folder.
pub fn with_tls(mut app: Builder, folder: &Path) -> Builder {
    app.config.tls_certificate = Some(folder.join("cert.pem"));
    app.config.tls_key = Some(folder.join("key.pem"));
    app
}
