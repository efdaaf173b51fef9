use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Timestamp, bounded,
    schema::{Name, QueueName},
};

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenScope {
    /// Enqueue, cancel, retry and delete tasks.
    Enqueue,
    /// Ask for everything there is to know.
    Read,
    /// Take tasks as a worker, and register executors of kind `worker`.
    Work,
    /// Everything.
    Admin,
}

/// What `POST /tokens` takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Names the token in lists and in the audit log. No token may have had it before.
    #[schema(value_type = Name, example = "tom-web")]
    pub name: String,
    /// What it is good for.
    #[serde(deserialize_with = "bounded::list::<4, _, _>")]
    #[schema(min_items = 1, max_items = 4)]
    pub scopes: Vec<TokenScope>,
    /// Binds it to tasks of these queues, 1 to 100; null: all queues. A token of scope `admin`
    /// cannot be bound.
    #[serde(
        default,
        deserialize_with = "bounded::optional_list::<100, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<Vec<QueueName>>, min_items = 1, max_items = 100, example = json!(["images"]))]
    pub queue_names: Option<Vec<String>>,
    /// When it stops to hold; null: not by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A token, without what callers show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its name.
    #[schema(example = "tom-web")]
    pub name: String,
    /// What it is good for.
    pub scopes: Vec<TokenScope>,
    /// The queues that it is bound to; null: all.
    #[schema(required = true)]
    pub queue_names: Option<Vec<String>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to hold; null: not by itself.
    #[schema(required = true)]
    pub expires_at: Option<Timestamp>,
    /// When it was shown last, to the minute or so.
    #[schema(required = true)]
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked; null if it was not.
    #[schema(required = true)]
    pub revoked_at: Option<Timestamp>,
}

/// A token that was just made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// What callers show, as `Authorization: Bearer SECRET`. It is not kept and never shown again.
    #[schema(
        pattern = r"^nst_[A-Za-z0-9_\-]{43}$",
        example = "nst_YQJr5u7PLE0IfYQVqa0ar8nN3UeGyh8Jx2Fh1sM0q4c"
    )]
    pub secret: String,
    /// The token.
    pub token: Token,
}

/// Tokens by name, revoked ones too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// The tokens of this page.
    pub items: Vec<Token>,
    /// Give it as `cursor` to read on; null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// Something that was registered, changed, cancelled or deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// The token's name; `admin_token` for the configured one; `anybody` while there are none.
    #[schema(example = "ops")]
    pub actor: String,
    /// The address that the request came from: a proxy's, if there is one.
    #[schema(required = true, example = "127.0.0.1")]
    pub address: Option<String>,
    /// The operation's `operationId`.
    #[schema(example = "put_executor")]
    pub action: String,
    /// The name or id of what it was done to.
    #[schema(example = "tom")]
    pub object: String,
}

/// Entries of the audit log, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditLog {
    /// The entries of this page.
    pub items: Vec<AuditEntry>,
    /// Give it as `cursor` to read on; null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}
