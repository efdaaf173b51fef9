//! A service that asks for tokens, and clients that show them.

use nightshift::config::Hidden;
use nightshift_client::{
    Client, Retry,
    types::{TokenRequest, TokenScope},
};

use super::app::{Builder, TestApp};

pub const ADMIN: &str = "an-admin-token-that-is-long-enough-for-it";

pub fn with_admin(mut builder: Builder) -> Builder {
    builder.config.admin_token = Some(Hidden::new(ADMIN));
    builder
}

/// A client that shows a token.
pub fn showing(app: &TestApp, token: &str) -> Client {
    Client::new(&app.server).unwrap().with_retry(Retry::never()).with_token(token).unwrap()
}

pub fn wanted(name: &str, scopes: &[TokenScope]) -> TokenRequest {
    TokenRequest {
        name: name.to_owned(),
        scopes: scopes.to_vec(),
        queue_names: None,
        expires_at: None,
    }
}

pub fn bound(name: &str, scopes: &[TokenScope], queue_names: &[&str]) -> TokenRequest {
    let queue_names = queue_names.iter().map(ToString::to_string).collect();
    TokenRequest { queue_names: Some(queue_names), ..wanted(name, scopes) }
}

pub async fn secret(admin: &Client, request: TokenRequest) -> String {
    admin.create_token(&request).await.unwrap().secret
}

/// The code of the problem that a call ended with.
pub fn code<T: std::fmt::Debug>(answer: nightshift_client::Result<T>) -> String {
    answer.unwrap_err().code().unwrap().name().to_owned()
}
