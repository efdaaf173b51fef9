//! A service that speaks TLS.

use std::{fs, path::Path};

use reqwest::Certificate;

use super::app::Builder;

/// Writes a new certificate for this machine, and returns it.
pub fn certify(folder: &Path) -> Certificate {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
}

/// Shows the certificate of this folder.
pub fn with_tls(mut app: Builder, folder: &Path) -> Builder {
    app.config.tls_certificate = Some(folder.join("cert.pem"));
    app.config.tls_key = Some(folder.join("key.pem"));
    app
}
