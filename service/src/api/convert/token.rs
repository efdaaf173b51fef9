//! Access tokens, and entries of the audit log.

use nightshift_openapi as wire;

use crate::{
    access,
    api::Error,
    domain::{
        Invalid, Timestamp,
        names::QueueName,
        token::{AuditEntry, Hash, NewToken, Scope, Token},
    },
};

/// The most queues to which one token can be bound.
const QUEUES_MAX: usize = 100;

pub(in crate::api) fn new_token(
    request: wire::TokenRequest,
    hash: Hash,
    now: Timestamp,
) -> Result<NewToken, Error> {
    let wire::TokenRequest { name, scopes, queue_names, expires_at } = request;
    let mut scopes: Vec<Scope> = scopes.into_iter().map(scope).collect();
    scopes.sort();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(Invalid::new("scopes", "needs at least one").into());
    }
    if queue_names.is_some() && scopes.contains(&Scope::Admin) {
        let reason = "cannot bind a token that has the scope admin";
        return Err(Invalid::new("queue_names", reason).into());
    }
    let expires_at = expires_at.map(Timestamp::from);
    if expires_at.is_some_and(|at| at <= now) {
        return Err(Invalid::new("expires_at", "is in the past").into());
    }
    let queue_names = queue_names.map(|names| bound_to(&names)).transpose()?;
    if access::STANDING_NAMES.contains(&name.as_str()) {
        return Err(Invalid::new("name", "is what the audit log calls somebody else").into());
    }
    Ok(NewToken { name: name.parse()?, hash, scopes, queue_names, expires_at })
}

fn bound_to(names: &[String]) -> Result<Vec<QueueName>, Invalid> {
    if names.is_empty() || names.len() > QUEUES_MAX {
        return Err(Invalid::new("queue_names", format!("needs 1 to {QUEUES_MAX} entries")));
    }
    let name = |name: &String| {
        name.parse().map_err(|invalid: Invalid| Invalid::new("queue_names", invalid.reason))
    };
    names.iter().map(name).collect()
}

fn scope(scope: wire::TokenScope) -> Scope {
    match scope {
        wire::TokenScope::Enqueue => Scope::Enqueue,
        wire::TokenScope::Read => Scope::Read,
        wire::TokenScope::Work => Scope::Work,
        wire::TokenScope::Admin => Scope::Admin,
    }
}

fn wire_scope(scope: Scope) -> wire::TokenScope {
    match scope {
        Scope::Enqueue => wire::TokenScope::Enqueue,
        Scope::Read => wire::TokenScope::Read,
        Scope::Work => wire::TokenScope::Work,
        Scope::Admin => wire::TokenScope::Admin,
    }
}

pub(in crate::api) fn wire_token(token: Token) -> wire::Token {
    let names = |names: Vec<QueueName>| names.iter().map(QueueName::to_string).collect();
    wire::Token {
        name: token.name.to_string(),
        scopes: token.scopes.into_iter().map(wire_scope).collect(),
        queue_names: token.queue_names.map(names),
        created_at: token.created_at.into(),
        expires_at: token.expires_at.map(Into::into),
        last_used_at: token.last_used_at.map(Into::into),
        revoked_at: token.revoked_at.map(Into::into),
    }
}

pub(in crate::api) fn wire_audit_entry(entry: AuditEntry) -> wire::AuditEntry {
    let AuditEntry { at, actor, address, action, object } = entry;
    wire::AuditEntry { at: at.into(), actor, address, action, object }
}
