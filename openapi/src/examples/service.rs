//! Plugins, queues, and the service itself.

use super::{PLUGIN, QUEUE, at};
use crate::{
    AuditEntry, AuditLog, CreatedToken, EndedCounts, Plugin, PluginList, PluginTask, PluginVersion,
    PruneRequest, Pruned, Queue, QueueChange, QueueList, RollbackRequest, Stats, Token, TokenList,
    TokenRequest, TokenScope,
};

const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const OLD_DIGEST: &str = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";

/// An installed plugin.
#[must_use]
pub fn plugin() -> Plugin {
    let active = PluginVersion {
        digest: DIGEST.to_owned(),
        size_bytes: 1_482_112,
        installed_at: at(-600),
        activated_at: at(-600),
        active: true,
    };
    let before = PluginVersion {
        digest: OLD_DIGEST.to_owned(),
        size_bytes: 1_479_680,
        installed_at: at(-86_400),
        activated_at: at(-86_400),
        active: false,
    };
    let task = PluginTask {
        task_path: "astronomy.extract_sources".to_owned(),
        summary: "Find the sources of an image".to_owned(),
        description: None,
        timeout_seconds: Some(60.0),
        max_attempts: Some(2),
    };
    Plugin {
        name: PLUGIN.to_owned(),
        digest: active.digest.clone(),
        size_bytes: active.size_bytes,
        tasks: vec![task],
        created_at: before.installed_at,
        updated_at: active.activated_at,
        versions: vec![active, before],
    }
}

/// The plugin after it went back to the version before.
#[must_use]
pub fn rolled_back_plugin() -> Plugin {
    let mut plugin = plugin();
    plugin.versions.reverse();
    for version in &mut plugin.versions {
        version.active = !version.active;
    }
    if let Some(version) = plugin.versions.first_mut() {
        version.activated_at = at(0);
        OLD_DIGEST.clone_into(&mut plugin.digest);
        plugin.size_bytes = version.size_bytes;
    }
    Plugin { updated_at: at(0), ..plugin }
}

/// All plugins.
#[must_use]
pub fn plugin_list() -> PluginList {
    PluginList { items: vec![plugin()], next_cursor: None }
}

/// Which version to go back to.
#[must_use]
pub fn rollback_request() -> RollbackRequest {
    RollbackRequest { digest: Some(OLD_DIGEST.to_owned()) }
}

/// The queue in which the task of the story waits.
#[must_use]
pub fn queue() -> Queue {
    Queue {
        name: QUEUE.to_owned(),
        paused: false,
        concurrency: Some(4),
        depth: 4,
        scheduled: 2,
        in_flight: 1,
        oldest_due_at: Some(at(0)),
        oldest_age_seconds: Some(1.5),
    }
}

/// All queues.
#[must_use]
pub fn queue_list() -> QueueList {
    QueueList { items: vec![queue()], next_cursor: None }
}

/// Runs four of its tasks at once.
#[must_use]
pub fn queue_change() -> QueueChange {
    QueueChange { paused: Some(false), concurrency: Some(Some(4)) }
}

fn ended(successful: u64) -> EndedCounts {
    EndedCounts { successful, failed: 2, cancelled: 1 }
}

/// The whole at a glance.
#[must_use]
pub fn stats() -> Stats {
    let queue = queue();
    Stats {
        due: queue.depth,
        scheduled: queue.scheduled,
        running: queue.in_flight,
        ended: ended(5_213),
        unrouted: 0,
        ended_last_minute: EndedCounts { successful: 9, ..EndedCounts::default() },
        ended_last_hour: ended(418),
        queues: vec![queue],
    }
}

/// Asks what would be deleted.
#[must_use]
pub fn prune_request() -> PruneRequest {
    PruneRequest {
        dry_run: true,
        retention_seconds: Some(604_800),
        retention_failed_seconds: Some(2_592_000),
    }
}

/// What would be deleted.
#[must_use]
pub fn pruned() -> Pruned {
    Pruned { tasks: ended(4_795), remaining: false }
}

/// The token of a web application.
#[must_use]
pub fn token() -> Token {
    Token {
        name: "tom-web".to_owned(),
        scopes: vec![TokenScope::Enqueue, TokenScope::Read],
        queue_names: Some(vec![QUEUE.to_owned()]),
        created_at: at(-3_600),
        expires_at: None,
        last_used_at: Some(at(0)),
        revoked_at: None,
    }
}

/// The wish for it.
#[must_use]
pub fn token_request() -> TokenRequest {
    let Token { name, scopes, queue_names, expires_at, .. } = token();
    TokenRequest { name, scopes, queue_names, expires_at }
}

/// It when it was made.
#[must_use]
pub fn created_token() -> CreatedToken {
    CreatedToken {
        secret: "nst_YQJr5u7PLE0IfYQVqa0ar8nN3UeGyh8Jx2Fh1sM0q4c".to_owned(),
        token: Token { last_used_at: None, ..token() },
    }
}

/// All tokens.
#[must_use]
pub fn token_list() -> TokenList {
    TokenList { items: vec![token()], next_cursor: None }
}

/// What was done lately.
#[must_use]
pub fn audit_log() -> AuditLog {
    let entry = |at_seconds, action: &str, object: &str| AuditEntry {
        at: at(at_seconds),
        actor: "ops".to_owned(),
        address: Some("127.0.0.1".to_owned()),
        action: action.to_owned(),
        object: object.to_owned(),
    };
    let items = vec![
        entry(-1_800, "put_executor", super::EXECUTOR),
        entry(-3_600, "create_token", "tom-web"),
    ];
    AuditLog { items, next_cursor: None }
}
