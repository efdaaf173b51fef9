//! Executors and their registrations.

use std::time::Duration;

use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;

use super::{options, wire_backoff};
use crate::{
    api::Error,
    domain::{
        Invalid,
        executor::{Executor, LEASE_DEFAULT, Registration, Secret, StoredSecret, Target},
        grants::Grants,
        names::ExecutorName,
        plugin::{self, MEMORY_MIB_DEFAULT},
        queue,
    },
    store,
    vault::Vault,
};

/// Checks a request to register an executor. `before` is the registration that it replaces, whose
/// secrets are kept unless the request has new ones.
pub(in crate::api) fn registration(
    name: ExecutorName,
    request: &wire::ExecutorRequest,
    vault: &Vault,
    before: Option<&Target>,
) -> Result<Registration, Error> {
    let target = target(&name, request, vault, before)?;
    let task_paths = request.task_paths.iter().enumerate().map(|(index, text)| {
        text.parse().map_err(|invalid| Error::from(invalid).below_index(index))
    });
    // A number that does not fit becomes 0, which `checked` refuses.
    let lease = |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let concurrency = request.concurrency.map(queue::concurrency).transpose()?;
    let registration = Registration {
        name,
        task_paths: task_paths.collect::<Result<_, _>>()?,
        concurrency: concurrency.or(target.concurrency_default()),
        lease: request.lease_seconds.map_or(LEASE_DEFAULT, lease),
        defaults: options(request.timeout_seconds, request.max_attempts, request.backoff)?,
        paused: request.paused,
        target,
    };
    Ok(registration.checked()?)
}

pub(in crate::api) fn executor_change(
    name: ExecutorName,
    change: &wire::ExecutorChange,
) -> Result<store::ExecutorChange, Invalid> {
    let concurrency = change.concurrency.map(|limit| limit.map(queue::concurrency).transpose());
    Ok(store::ExecutorChange { name, paused: change.paused, concurrency: concurrency.transpose()? })
}

fn target(
    name: &ExecutorName,
    request: &wire::ExecutorRequest,
    vault: &Vault,
    before: Option<&Target>,
) -> Result<Target, Error> {
    refuse_foreign_fields(request)?;
    match request.kind {
        wire::ExecutorKind::Http => {
            let url = request.url.as_deref().ok_or_else(|| missing("url", "http"))?.parse()?;
            let (secret, previous_secret) = secrets(name, request, vault, before)?;
            let echoes_task_id = request.echoes_task_id;
            Ok(Target::Http { url, secret, previous_secret, echoes_task_id })
        }
        wire::ExecutorKind::Worker => Ok(Target::Worker),
        wire::ExecutorKind::Wasm => {
            let plugin =
                request.plugin.as_deref().ok_or_else(|| missing("plugin", "wasm"))?.parse();
            let memory_mib = request.memory_mib.map(plugin::memory_mib).transpose()?;
            Ok(Target::Wasm {
                plugin: plugin
                    .map_err(|invalid: Invalid| Invalid::new("plugin", invalid.reason))?,
                memory_mib: memory_mib.unwrap_or(MEMORY_MIB_DEFAULT),
                grants: match &request.grants {
                    Some(wire) => grants(wire, before)?,
                    None => Grants::default(),
                },
            })
        }
    }
}

fn missing(field: &'static str, kind: &str) -> Invalid {
    Invalid::new(field, format!("is required for an executor of kind {kind}"))
}

/// Both secrets in the form in which they are stored: those in the request, or, without one, the
/// present ones.
fn secrets(
    name: &ExecutorName,
    request: &wire::ExecutorRequest,
    vault: &Vault,
    before: Option<&Target>,
) -> Result<(StoredSecret, Option<StoredSecret>), Error> {
    let seal = |secret: &Secret| {
        let sealed = vault.seal(name.as_str(), secret);
        sealed.map_err(|locked| Error::new(ErrorCode::Internal, format!("the secret {locked}")))
    };
    let previous: Option<Secret> =
        request
            .previous_secret
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|invalid: Invalid| Invalid::new("previous_secret", invalid.reason))?;
    let previous = previous.as_ref().map(seal).transpose()?;
    match (request.secret.as_deref(), before) {
        (Some(secret), _) => Ok((seal(&secret.parse()?)?, previous)),
        (None, Some(Target::Http { secret, previous_secret, .. })) => {
            Ok((secret.clone(), previous.or_else(|| previous_secret.clone())))
        }
        (None, Some(Target::Worker | Target::Wasm { .. }) | None) => {
            Err(missing("secret", "http").into())
        }
    }
}

/// Refuses fields that belong to executors of another kind.
fn refuse_foreign_fields(request: &wire::ExecutorRequest) -> Result<(), Invalid> {
    use wire::ExecutorKind::{Http, Wasm};
    for (field, owner, given) in [
        ("url", Http, request.url.is_some()),
        ("secret", Http, request.secret.is_some()),
        ("previous_secret", Http, request.previous_secret.is_some()),
        ("echoes_task_id", Http, request.echoes_task_id),
        ("plugin", Wasm, request.plugin.is_some()),
        ("memory_mib", Wasm, request.memory_mib.is_some()),
        ("grants", Wasm, request.grants.is_some()),
    ] {
        if given && request.kind != owner {
            let owner = if owner == Http { "http" } else { "wasm" };
            let reason = format!("is for executors of kind {owner} only");
            return Err(Invalid::new(field, reason));
        }
    }
    Ok(())
}

/// Checks grants. A variable without a value keeps the value that it has in `before`.
fn grants(wire: &wire::Grants, before: Option<&Target>) -> Result<Grants, Invalid> {
    let stored = match before {
        Some(Target::Wasm { grants, .. }) => Some(&grants.environment),
        Some(Target::Http { .. } | Target::Worker) | None => None,
    };
    let value = |(name, given): (&String, &Option<String>)| {
        let value = given.as_ref().or_else(|| stored?.get(name));
        let none =
            || Invalid::new("grants/environment", format!("there is no value of {name} yet"));
        Ok((name.clone(), value.ok_or_else(none)?.clone()))
    };
    let grants = Grants {
        http: wire.http.iter().map(|host| host.parse()).collect::<Result<_, _>>()?,
        directories: wire.directories.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
        environment: wire.environment.iter().map(value).collect::<Result<_, Invalid>>()?,
    };
    grants.checked()
}

impl Error {
    /// The same error, for one entry of `task_paths`.
    fn below_index(self, index: usize) -> Self {
        let pointer = format!("/task_paths/{index}");
        self.at(pointer)
    }
}

fn granted(grants: &Grants) -> wire::Granted {
    wire::Granted {
        http: grants.http.iter().map(ToString::to_string).collect(),
        directories: grants.directories.iter().map(ToString::to_string).collect(),
        environment: grants.environment.keys().cloned().collect(),
    }
}

pub(in crate::api) fn wire_executor(executor: Executor) -> wire::Executor {
    let Executor { registration, version, circuit, .. } = executor;
    let echoes_task_id = matches!(registration.target, Target::Http { echoes_task_id: true, .. });
    let (kind, url, plugin) = match registration.target {
        Target::Http { url, .. } => {
            (wire::ExecutorKind::Http, Some(url.as_url().to_string()), None)
        }
        Target::Worker => (wire::ExecutorKind::Worker, None, None),
        Target::Wasm { plugin, memory_mib, grants } => {
            (wire::ExecutorKind::Wasm, None, Some((plugin.to_string(), memory_mib, grants)))
        }
    };
    wire::Executor {
        kind,
        url,
        echoes_task_id,
        plugin_digest: version.map(|version| version.digest.to_string()),
        memory_mib: plugin.as_ref().map(|(_, memory_mib, _)| *memory_mib),
        grants: plugin.as_ref().map(|(_, _, grants)| granted(grants)),
        plugin: plugin.map(|(name, _, _)| name),
        task_paths: registration.task_paths.iter().map(ToString::to_string).collect(),
        name: registration.name.as_str().to_owned(),
        concurrency: registration.concurrency,
        lease_seconds: u32::try_from(registration.lease.as_secs()).unwrap_or(u32::MAX),
        timeout_seconds: registration.defaults.timeout.map(|timeout| timeout.as_secs_f64()),
        max_attempts: registration.defaults.max_attempts,
        backoff: registration.defaults.backoff.map(wire_backoff),
        paused: registration.paused,
        hold: circuit.held_until.map(|until| wire::Hold {
            until: until.into(),
            failures: circuit.failures,
            reason: circuit.reason.unwrap_or_default(),
        }),
        created_at: executor.created_at.into(),
        updated_at: executor.updated_at.into(),
    }
}
