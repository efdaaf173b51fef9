//! The sentences by which `explain` says why a task is in its present state.

use nightshift_openapi as wire;

use crate::domain::{
    Timestamp,
    limits::AHEAD_COUNTED_MAX,
    reason::{Lack, Reason},
};

pub(in crate::api) fn wire_reason(reason: Reason) -> wire::Reason {
    match reason {
        Reason::Unreadable { what } => of(
            wire::ReasonCode::Unreadable,
            format!("the database holds {what}: the task fails when its turn comes"),
        ),
        Reason::UnreadableExecutor => of(
            wire::ReasonCode::Unreadable,
            "the database holds an executor that cannot be read: register it again".to_owned(),
        ),
        Reason::Finished => of(wire::ReasonCode::Finished, "the task has ended".to_owned()),
        Reason::Leased { executor, renewed_at, expires_at } => wire::Reason {
            until: Some(expires_at.into()),
            executor,
            ..of(
                wire::ReasonCode::Leased,
                format!("it runs, and was last heard of at {}", wire::Timestamp::from(renewed_at)),
            )
        },
        Reason::CancelRequested { until } => wire::Reason {
            until: Some(until.into()),
            ..of(wire::ReasonCode::CancelRequested, "it was asked to stop".to_owned())
        },
        Reason::WaitsForTime { until } => wire::Reason {
            until: Some(until.into()),
            ..of(wire::ReasonCode::WaitsForTime, "it is not due yet".to_owned())
        },
        Reason::Unrouted { task_path } => {
            of(wire::ReasonCode::Unrouted, format!("no executor serves {task_path}"))
        }
        Reason::ExecutorPaused { executor } => wire::Reason {
            executor: Some(executor),
            ..of(wire::ReasonCode::ExecutorPaused, "its executor is paused".to_owned())
        },
        Reason::ExecutorHeld { executor, until, why } => wire::Reason {
            executor: Some(executor),
            until: Some(until.into()),
            ..of(wire::ReasonCode::ExecutorHeld, format!("its executor is left alone: {why}"))
        },
        Reason::ExecutorFull { executor, concurrency } => wire::Reason {
            executor: Some(executor),
            count: Some(concurrency),
            ..of(
                wire::ReasonCode::ExecutorFull,
                format!("its executor runs {concurrency} tasks, as many as it may"),
            )
        },
        Reason::QueuePaused { queue_name } => {
            of(wire::ReasonCode::QueuePaused, format!("the queue {queue_name} is paused"))
        }
        Reason::QueueFull { queue_name, concurrency, holders } => wire::Reason {
            count: Some(concurrency),
            ..of(wire::ReasonCode::QueueFull, full(&queue_name, concurrency, &holders.join(", ")))
        },
        Reason::ProcessFull { lack } => of(wire::ReasonCode::ProcessFull, lacks(lack).to_owned()),
        Reason::NoWorker { executor, queue_name, asked_at, running } => wire::Reason {
            executor: Some(executor),
            count: Some(running),
            ..of(wire::ReasonCode::NoWorker, no_worker(&queue_name, asked_at, running))
        },
        Reason::BehindOthers { executor, count } => wire::Reason {
            executor: Some(executor),
            count: Some(count),
            ..of(wire::ReasonCode::BehindOthers, behind(count))
        },
        Reason::AboutToStart => {
            of(wire::ReasonCode::AboutToStart, "nothing keeps it from starting".to_owned())
        }
    }
}

fn of(code: wire::ReasonCode, detail: String) -> wire::Reason {
    wire::Reason { code, detail, executor: None, until: None, count: None }
}

fn full(queue_name: &str, concurrency: u32, holders: &str) -> String {
    format!("the queue {queue_name} runs {concurrency} tasks, as many as it may: {holders}")
}

fn lacks(lack: Lack) -> &'static str {
    match lack {
        Lack::Attempts => "this process makes as many attempts as it may (attempts_max)",
        Lack::Places => {
            "this process runs as many plugins as it may, or as many of this executor \
             (plugin_runs_max, plugin_memory_mib)"
        }
        Lack::Memory => {
            "this process has no memory left for what the call carries (payload_memory_mib)"
        }
    }
}

fn no_worker(queue_name: &str, asked_at: Option<Timestamp>, running: u32) -> String {
    let since = asked_at.map(|at| format!(" since {}", wire::Timestamp::from(at)));
    let busy = (running > 0)
        .then(|| format!("; {running} tasks of its executor run, so its workers may be busy"));
    let (since, busy) = (since.unwrap_or_default(), busy.unwrap_or_default());
    format!("no worker has asked for tasks of the queue {queue_name}{since}{busy}")
}

fn behind(count: u32) -> String {
    let or_more = if count >= AHEAD_COUNTED_MAX { " or more" } else { "" };
    format!("{count}{or_more} tasks of its executor come first")
}
