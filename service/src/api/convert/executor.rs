use std::time::Duration;

use nightshift_openapi as wire;

use super::{options, wire_backoff};
use crate::{
    api::Error,
    domain::{
        Invalid,
        executor::{CONCURRENCY_DEFAULT, Executor, LEASE_SECONDS_DEFAULT, Registration, Target},
        names::ExecutorName,
        queue,
    },
};

pub(in crate::api) fn registration(
    name: ExecutorName,
    request: &wire::ExecutorRequest,
) -> Result<Registration, Error> {
    let target = target(request)?;
    let task_paths = request.task_paths.iter().enumerate().map(|(index, text)| {
        text.parse().map_err(|invalid| Error::from(invalid).below_index(index))
    });
    let lease_seconds = match request.lease_seconds {
        None => LEASE_SECONDS_DEFAULT,
        // What does not fit is out of bounds anyhow.
        Some(given) => u32::try_from(given).unwrap_or(0),
    };
    let concurrency = request.concurrency.map(queue::concurrency).transpose()?;
    let registration = Registration {
        name,
        task_paths: task_paths.collect::<Result<_, _>>()?,
        concurrency: match target {
            Target::Http { .. } => concurrency.or(Some(CONCURRENCY_DEFAULT)),
            Target::Worker => concurrency,
        },
        lease: Duration::from_secs(u64::from(lease_seconds)),
        defaults: options(request.timeout_seconds, request.max_attempts, request.backoff)?,
        paused: request.paused,
        target,
    };
    Ok(registration.checked()?)
}

fn target(request: &wire::ExecutorRequest) -> Result<Target, Error> {
    match request.kind {
        wire::ExecutorKind::Http => {
            let missing = |field| Invalid::new(field, "is required for an executor of kind http");
            let previous_secret = request.previous_secret.as_deref().map(str::parse);
            Ok(Target::Http {
                url: request.url.as_deref().ok_or_else(|| missing("url"))?.parse()?,
                secret: request.secret.as_deref().ok_or_else(|| missing("secret"))?.parse()?,
                previous_secret: previous_secret
                    .transpose()
                    .map_err(|invalid: Invalid| Invalid::new("previous_secret", invalid.reason))?,
            })
        }
        wire::ExecutorKind::Worker => {
            for (field, given) in [
                ("url", &request.url),
                ("secret", &request.secret),
                ("previous_secret", &request.previous_secret),
            ] {
                if given.is_some() {
                    let reason = "is not for an executor of kind worker, which is not called";
                    return Err(Invalid::new(field, reason).into());
                }
            }
            Ok(Target::Worker)
        }
    }
}

impl Error {
    /// The same error of one entry of a list.
    fn below_index(self, index: usize) -> Self {
        let pointer = format!("/task_paths/{index}");
        self.at(pointer)
    }
}

pub(in crate::api) fn wire_executor(executor: Executor) -> wire::Executor {
    let Executor { registration, circuit, .. } = executor;
    let (kind, url) = match &registration.target {
        Target::Http { url, .. } => (wire::ExecutorKind::Http, Some(url.as_url().to_string())),
        Target::Worker => (wire::ExecutorKind::Worker, None),
    };
    wire::Executor {
        kind,
        url,
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
