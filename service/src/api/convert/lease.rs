//! Leases: requests of workers for tasks, and the leases that they get.

use std::time::Duration;

use nightshift_openapi as wire;

use super::wire_task;
use crate::{
    api::Error,
    domain::{
        Invalid,
        executor::ExecutorId,
        lease::{Assignment, Claimed},
        limits::{LEASES_MAX, QUEUES_ASKED_MAX, WAIT_ASKED_MAX, WAIT_MAX},
        names::QueueName,
        queue::QueueFilter,
        task,
    },
    store::{ClaimRequest, Claimer},
};

/// The name that stands for all queues.
pub(in crate::api) const ALL_QUEUES: &str = "*";

pub(in crate::api) fn lease_request(
    executor: ExecutorId,
    request: wire::LeaseRequest,
) -> Result<ClaimRequest, Error> {
    let limit = request.max_tasks.unwrap_or(1);
    let limit = u32::try_from(limit).ok().filter(|limit| (1..=LEASES_MAX).contains(limit));
    let limit =
        limit.ok_or_else(|| Invalid::new("max_tasks", format!("must be 1 to {LEASES_MAX}")))?;
    let all = |names: &Vec<String>| names.iter().any(|name| name == ALL_QUEUES);
    let queues = QueueFilter {
        only: request
            .queue_names
            .filter(|names| !all(names))
            .map(|names| queue_names("queue_names", &names))
            .transpose()?,
        except: queue_names(
            "exclude_queue_names",
            &request.exclude_queue_names.unwrap_or_default(),
        )?,
    };
    let worker_id = task::key("worker_id", request.worker_id)?;
    Ok(ClaimRequest { by: Claimer::Worker { executor, worker_id, queues }, limit })
}

/// How long the worker waits for tasks. A longer wait than 50 s is shortened to that.
pub(in crate::api) fn lease_wait(seconds: Option<i64>) -> Result<Duration, Error> {
    let wait = u64::try_from(seconds.unwrap_or(0)).ok().map(Duration::from_secs);
    let wait = wait.filter(|wait| *wait <= WAIT_ASKED_MAX).ok_or_else(|| {
        Invalid::new("wait_seconds", format!("must be 0 to {}", WAIT_ASKED_MAX.as_secs()))
    })?;
    Ok(wait.min(WAIT_MAX))
}

fn queue_names(field: &'static str, names: &[String]) -> Result<Vec<QueueName>, Invalid> {
    if names.len() > QUEUES_ASKED_MAX {
        return Err(Invalid::new(field, format!("has more than {QUEUES_ASKED_MAX} entries")));
    }
    let mut names: Vec<QueueName> = names
        .iter()
        .map(|name| name.parse().map_err(|invalid: Invalid| Invalid::new(field, invalid.reason)))
        .collect::<Result<_, _>>()?;
    names.sort();
    names.dedup();
    Ok(names)
}

pub(in crate::api) fn wire_lease(claimed: Claimed) -> Result<wire::Lease, Error> {
    let Assignment { task, max_attempts, deadline, expires_at, traceparent, token } =
        *claimed.assignment;
    Ok(wire::Lease {
        token: token.to_string(),
        attempt: task.attempts,
        max_attempts,
        expires_at: expires_at.into(),
        deadline: deadline.into(),
        traceparent,
        task: wire_task(task)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::lease_wait;

    #[test]
    fn a_worker_that_asks_for_more_is_answered_before_a_proxy_gives_up() {
        assert_eq!(lease_wait(Some(60)).unwrap(), Duration::from_secs(50));
        assert_eq!(lease_wait(Some(20)).unwrap(), Duration::from_secs(20));
        assert_eq!(lease_wait(None).unwrap(), Duration::ZERO);
        assert!(lease_wait(Some(61)).is_err());
    }
}
