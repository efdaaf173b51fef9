use nightshift_openapi::{AuditLog, CreatedToken, TokenList, TokenRequest};
use reqwest::Method;

use crate::{Client, Result};

impl Client {
    /// Makes a token. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// `invalid_field`, `token_name_taken`, `admin_token_needed`.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<CreatedToken> {
        let call = self.request(Method::POST, &["tokens"]).for_secrets();
        Ok(call.json(request)?.send().await?.1)
    }

    /// One page of tokens, by name, revoked ones too.
    ///
    /// # Errors
    /// `invalid_query`, `invalid_cursor`.
    pub async fn list_tokens(&self, cursor: Option<&str>, limit: Option<u32>) -> Result<TokenList> {
        let call =
            self.request(Method::GET, &["tokens"]).query("cursor", cursor).query("limit", limit);
        Ok(call.send().await?.1)
    }

    /// Lets a token hold no more.
    ///
    /// # Errors
    /// `token_not_found`, `admin_token_needed`.
    pub async fn revoke_token(&self, name: &str) -> Result<()> {
        self.request(Method::DELETE, &["tokens", name]).send_for_nothing().await
    }

    /// One page of the audit log, newest first.
    ///
    /// # Errors
    /// `invalid_query`, `invalid_cursor`.
    pub async fn list_audit_entries(
        &self,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<AuditLog> {
        let call =
            self.request(Method::GET, &["audit"]).query("cursor", cursor).query("limit", limit);
        Ok(call.send().await?.1)
    }
}
