//! Waits for a task's end: says where the task is to be found, why it does not run, and what becomes
//! of it when nobody waits any more.

use std::{convert::Infallible, future::pending, process::ExitCode, time::Duration};

use indicatif::ProgressBar;
use nightshift_client::{
    Client,
    types::{Reason, ReasonCode, TaskStatus},
};
use tokio::time::sleep;
use uuid::Uuid;

use super::{output::UNFINISHED, time::shown, visible::visible, watch};
use crate::{shutdown::Interrupt, telemetry::print};

/// How often a task that does not run is asked why: a service that has room starts one sooner.
const EXPLAIN_PERIOD: Duration = Duration::from_secs(2);
/// Exit status after Ctrl-C, as shells show it for a program that SIGINT ends.
const INTERRUPTED: u8 = 130;

/// How a wait ended.
pub(super) enum Waited {
    Ended,
    /// The task has not ended; the exit status that says so.
    GivenUp(ExitCode),
}

/// Waits until the task has ended, for so long at most, or until Ctrl-C.
pub(super) async fn wait_for_end(
    client: &Client,
    id: Uuid,
    limit: Option<Duration>,
) -> anyhow::Result<Waited> {
    // Listened for before anybody is told of the task, so that Ctrl-C always finds an answer.
    let mut interrupt = Interrupt::listen()?;
    print(&format!("enqueued {id}"));
    let bar = watch::bar()?;
    let time_over = async {
        match limit {
            Some(limit) => sleep(limit).await,
            None => pending().await,
        }
    };
    let (why, code) = tokio::select! {
        ended = watch::follow(client.watch_task(id), &bar, None) => {
            bar.finish_and_clear();
            return ended.map(|_status| Waited::Ended);
        }
        never = explain(client, id, &bar) => match never {},
        () = time_over => {
            let within = limit.map(shown).unwrap_or_default();
            (format!("the task has not ended within {within}, and goes on"), UNFINISHED)
        }
        () = interrupt.next() => ("the task goes on".to_owned(), INTERRUPTED),
    };
    bar.finish_and_clear();
    print(&format!(
        "{why}: `nightshift get {id} --wait 5m` waits for it again, `nightshift cancel {id}` cancels it"
    ));
    Ok(Waited::GivenUp(ExitCode::from(code)))
}

/// Says why the task does not run, whenever it is for another reason than before.
async fn explain(client: &Client, id: Uuid, bar: &ProgressBar) -> Infallible {
    let mut said: Vec<Reason> = Vec::new();
    loop {
        sleep(EXPLAIN_PERIOD).await;
        // Whether the service is away, the wait for the end finds out.
        let Ok(explanation) = client.explain_task(id).await else { continue };
        let keeps = |reason: &Reason| reason.code != ReasonCode::AboutToStart;
        if explanation.status != TaskStatus::Ready {
            continue;
        }
        let reasons: Vec<Reason> = explanation.reasons.into_iter().filter(keeps).collect();
        for reason in reasons.iter().filter(|reason| !is_among(&said, reason)) {
            bar.suspend(|| print(&format!("it waits: {}", visible(&reason.detail))));
        }
        said = reasons;
    }
}

/// By what it is about: how many tasks are before this one, say, changes all the time.
fn is_among(said: &[Reason], reason: &Reason) -> bool {
    said.iter().any(|other| other.code == reason.code && other.executor == reason.executor)
}
