//! Whether work goes on, stops and is reported as it should be.

use std::{pin::pin, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    stand_in::Said,
    suite::{Attempt, Checked, Flaw, Heard, Suite, failed},
};
use crate::{domain::limits::CANCEL_GRACE, executor::Answer};

/// Long enough for a heartbeat, which is due each second.
const WORK: Duration = Duration::from_millis(1_600);
/// Work that is stopped before it is done.
const LONG_WORK: Duration = Duration::from_secs(4);
/// An attempt's limit which that work exceeds.
const LIMIT: Duration = Duration::from_millis(1_500);
/// After this a request has certainly begun its work.
const BEGINNING: Duration = Duration::from_millis(500);
/// When a report would have come that must not come.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a heartbeat may be awaited, and an end after the work's.
const PATIENCE: Duration = Duration::from_secs(5);

/// Begins work that is to be accepted with 202.
async fn accepted(suite: &Suite, lasts: Duration) -> Result<Attempt<'_>, Flaw> {
    let attempt = suite.lasting(&suite.tasks.later, lasts);
    accept(&attempt.execute().await?)?;
    Ok(attempt)
}

fn accept(heard: &Heard) -> Checked {
    match heard.answer {
        Answer::Accepted => Ok(()),
        Answer::Ended(_) => failed(format!("was to answer 202, and {}", heard.words())),
    }
}

/// The value that the work returned, once it has; nothing more may come until the silence is over.
async fn reported_once(suite: &Suite, attempt: &Attempt<'_>, lasts: Duration) -> Checked {
    let until = attempt.begun + lasts + PATIENCE;
    let lease = suite
        .stand_in
        .wait(attempt.token(), until, |lease| lease.end().is_some() || lease.fault().is_some())
        .await?;
    match (lease.fault(), lease.end()) {
        (Some(fault), _) => return failed(fault),
        (None, Some(Said::Value(value))) => {
            let got: Value = value.parse_as().map_err(anyhow::Error::from)?;
            if got != lasts.as_secs_f64() {
                return failed(format!("was to return {}, returned {got}", lasts.as_secs_f64()));
            }
        }
        (None, Some(other)) => return failed(format!("was to return a value, said {other:?}")),
        (None, None) => return failed(format!("did not finish within {:?}", lasts + PATIENCE)),
    }
    if lease.heartbeats() == 0 {
        return failed(format!("sent no heartbeat in {lasts:?}"));
    }
    silence(suite, attempt, Instant::now() + SILENCE).await
}

/// Nothing that is too late, or too much, may be reported until then.
async fn silence(suite: &Suite, attempt: &Attempt<'_>, until: Instant) -> Checked {
    let lease =
        suite.stand_in.wait(attempt.token(), until, |lease| lease.fault().is_some()).await?;
    lease.fault().map_or(Ok(()), failed)
}

pub(super) async fn heartbeats_and_one_end(suite: &Suite) -> Checked {
    let attempt = accepted(suite, WORK).await?;
    reported_once(suite, &attempt, WORK).await
}

pub(super) async fn again_is_one_piece_of_work(suite: &Suite) -> Checked {
    let attempt = accepted(suite, WORK).await?;
    accept(&attempt.execute().await?)?;
    reported_once(suite, &attempt, WORK).await
}

/// Work in the request: it fails or breaks off, but does not succeed any more.
pub(super) async fn request_stops(suite: &Suite) -> Checked {
    stops(suite, &suite.lasting(&suite.tasks.slow, LONG_WORK)).await
}

pub(super) async fn again_stops_too(suite: &Suite) -> Checked {
    let attempt = suite.lasting(&suite.tasks.slow, LONG_WORK);
    stops(suite, &attempt).await?;
    stops(suite, &attempt).await
}

async fn stops(suite: &Suite, attempt: &Attempt<'_>) -> Checked {
    let mut answering = pin!(attempt.execute());
    let early = timeout_at(Instant::now() + BEGINNING, answering.as_mut()).await;
    if let Ok(heard) = early {
        let heard = heard?;
        if let Answer::Accepted = heard.answer {
            return accepted_stops(suite, attempt).await;
        }
        // One that was cancelled before may know it by itself.
        if suite.stand_in.is_cancel_requested(attempt.token()) && !heard.is_success() {
            return Ok(());
        }
        return failed(format!("ended before it was cancelled: {}", heard.words()));
    }
    suite.stand_in.request_cancel(attempt.token());
    let cancelled_at = Instant::now();
    let (answer, told) =
        tokio::join!(timeout_at(cancelled_at + CANCEL_GRACE, answering), attempt.cancel());
    told?;
    match answer {
        Ok(Ok(heard)) if heard.is_success() => {
            failed(format!("{} although the attempt was cancelled", heard.words()))
        }
        // Failed, or the connection is closed: both are seen by nobody any more.
        Ok(Ok(_) | Err(Flaw::Failed(_))) => Ok(()),
        Ok(Err(flaw)) => Err(flaw),
        Err(_elapsed) => failed(format!("still works {CANCEL_GRACE:?} after the cancel")),
    }
}

pub(super) async fn accepted_work_stops(suite: &Suite) -> Checked {
    let attempt = accepted(suite, LONG_WORK).await?;
    accepted_stops(suite, &attempt).await
}

async fn accepted_stops(suite: &Suite, attempt: &Attempt<'_>) -> Checked {
    suite.stand_in.request_cancel(attempt.token());
    let cancelled_at = Instant::now();
    attempt.cancel().await?;
    let until = cancelled_at + CANCEL_GRACE;
    let lease = suite
        .stand_in
        .wait(attempt.token(), until, |lease| lease.end().is_some() || lease.fault().is_some())
        .await?;
    match (lease.fault(), lease.end()) {
        (Some(fault), _) => failed(fault),
        (None, Some(Said::Value(_))) => {
            failed("finishes as successful although the attempt was cancelled")
        }
        (None, Some(_)) => silence(suite, attempt, attempt.begun + LONG_WORK + SILENCE).await,
        (None, None) => {
            failed(format!("did not report its end within {CANCEL_GRACE:?} of the cancel"))
        }
    }
}

/// The lease runs out, and no message says so.
pub(super) async fn nothing_after_a_lost_lease(suite: &Suite) -> Checked {
    let attempt = accepted(suite, LONG_WORK).await?;
    let until = Instant::now() + PATIENCE.min(LONG_WORK);
    let lease = suite.stand_in.wait(attempt.token(), until, |lease| lease.heartbeats() > 0).await?;
    if lease.heartbeats() == 0 {
        return failed(format!("sent no heartbeat in {PATIENCE:?}"));
    }
    suite.stand_in.end(attempt.token());
    silence(suite, &attempt, attempt.begun + LONG_WORK + SILENCE).await
}

pub(super) async fn nothing_after_the_deadline(suite: &Suite) -> Checked {
    let path = &suite.tasks.later;
    let args = serde_json::json!([LONG_WORK.as_secs_f64()]);
    let attempt = suite.attempt_within(LIMIT, path, &args, &serde_json::json!({}));
    accept(&attempt.execute().await?)?;
    sleep_until(attempt.begun + LIMIT).await;
    suite.stand_in.end(attempt.token());
    attempt.cancel().await?;
    silence(suite, &attempt, attempt.begun + LONG_WORK + SILENCE).await
}
