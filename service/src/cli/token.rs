use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use futures_util::{StreamExt, TryStreamExt};
use nightshift_client::{
    Client,
    types::{AuditLog, CreatedToken, Timestamp, Token, TokenList, TokenRequest, TokenScope},
};

use super::output::{Cell, Output, table};

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Create a token and print its secret once
    Create(Create),
    /// List tokens by name, deleted ones included
    List,
    /// Make a token invalid; it stays in the list
    #[command(aliases = ["remove", "revoke"])]
    Delete(Name),
}

#[derive(Args)]
pub(super) struct Create {
    /// Name of the token; names of deleted tokens cannot be used again
    name: String,
    /// Operations that the token allows; may be repeated
    #[arg(long = "scope", required = true, value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// Allow only tasks of this queue; may be repeated
    #[arg(long = "queue", alias = "queue-name", value_name = "NAME")]
    queue_names: Vec<String>,
    /// End of its validity, such as 2027-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scope {
    /// Enqueue, cancel, retry and delete tasks
    Enqueue,
    /// Read tasks, queues, executors, events and metrics
    Read,
    /// Lease tasks as a worker, and register executors of kind worker
    Work,
    /// Everything
    Admin,
}

impl From<Scope> for TokenScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Enqueue => Self::Enqueue,
            Scope::Read => Self::Read,
            Scope::Work => Self::Work,
            Scope::Admin => Self::Admin,
        }
    }
}

#[derive(Args)]
pub(super) struct Name {
    /// The token's name
    name: String,
}

/// List administrative changes and the tokens that made them, newest first
#[derive(Args)]
pub(super) struct Audit {
    /// Largest number of entries to show
    #[arg(long, default_value_t = 100, value_name = "NUMBER")]
    limit: usize,
}

impl TokenCommand {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(create) => {
                out.print(&client.create_token(&create.request()).await?, show_created)?;
            }
            Self::List => {
                let items = client.tokens().try_collect().await?;
                out.print(&TokenList { items, next_cursor: None }, show_list)?;
            }
            Self::Delete(Name { name }) => client.revoke_token(&name).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Create {
    fn request(self) -> TokenRequest {
        TokenRequest {
            name: self.name,
            scopes: self.scopes.into_iter().map(TokenScope::from).collect(),
            queue_names: Some(self.queue_names).filter(|names| !names.is_empty()),
            expires_at: self.expires_at,
        }
    }
}

impl Audit {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
        let items = client.audit_entries().take(self.limit).try_collect().await?;
        out.print(&AuditLog { items, next_cursor: None }, show_audit)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The secret alone, so that a script can take it.
fn show_created(created: &CreatedToken) -> String {
    created.secret.clone()
}

fn show_list(list: &TokenList) -> String {
    let rows = list.items.iter().map(|token| {
        vec![
            Cell::new(&token.name),
            Cell::new(scopes(token)),
            Cell::new(token.queue_names.as_ref().map_or("all".to_owned(), |names| names.join(" "))),
            Cell::new(token.created_at),
            Cell::new(time(token.expires_at)),
            Cell::new(time(token.last_used_at)),
            Cell::new(time(token.revoked_at)),
        ]
    });
    table(
        &["token", "scopes", "queues", "created", "expires", "last used", "revoked"],
        rows.collect(),
    )
}

fn scopes(token: &Token) -> String {
    let name = |scope: &TokenScope| match scope {
        TokenScope::Enqueue => "enqueue",
        TokenScope::Read => "read",
        TokenScope::Work => "work",
        TokenScope::Admin => "admin",
    };
    token.scopes.iter().map(name).collect::<Vec<_>>().join(" ")
}

fn time(at: Option<Timestamp>) -> String {
    at.map_or("-".to_owned(), |at| at.to_string())
}

fn show_audit(log: &AuditLog) -> String {
    let rows = log.items.iter().map(|entry| {
        vec![
            Cell::new(entry.at),
            Cell::new(&entry.actor),
            Cell::new(entry.address.as_deref().unwrap_or("-")),
            Cell::new(&entry.action),
            Cell::new(&entry.object),
        ]
    });
    table(&["at", "who", "from", "did", "to"], rows.collect())
}
