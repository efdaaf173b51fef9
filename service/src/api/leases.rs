//! `/executors/{name}/leases` and `/leases`: workers take tasks, and executors and workers report
//! on their attempts.

use actix_web::{HttpRequest, HttpResponse, post, web::Path};
use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;

use super::{
    Error, Shared, answer, convert, executors,
    extract::{self, Body, Report, Reports},
    params::{OfExecutor, OfLease},
    peer,
    responses::{AttemptOver, NoSuchExecutor, NotAWorker, Problems, Reported, Sent, Written},
};
use crate::{
    access::Caller,
    domain::{Invalid, attempt::Outcome, lease::LeaseToken, limits::LEASES_MAX},
    memory::{Held, Share},
    store::{Ended, RenewRequest},
};

fn lost() -> Error {
    let detail = "the lease ran out, or the attempt has ended";
    Error::new(ErrorCode::LeaseLost, detail)
}

/// Parses a lease's token. A malformed one is answered like the token of an attempt that is over.
fn token(text: &str) -> Result<LeaseToken, Error> {
    text.parse().map_err(|_malformed| lost())
}

/// Take tasks to run
///
/// For a worker of an executor of kind `worker`: the first tasks that may start, or none after
/// the wait. Each is RUNNING from then on, under a lease that the worker renews until it
/// finishes. Workers that ask at the same time get their tasks in turn.
#[utoipa::path(
    tag = "leases",
    operation_id = "lease_tasks",
    security((), ("bearer" = ["work"])),
    params(OfExecutor),
    request_body(content = wire::LeaseRequest, example = json!(wire::examples::lease_request())),
    responses(
        (status = 200, description = "The tasks, if there were any", body = wire::LeaseList,
            example = json!(wire::examples::lease_list())),
        Problems<(Sent, NoSuchExecutor, NotAWorker, Written)>,
    )
)]
#[post("/executors/{name}/leases")]
pub(super) async fn lease_tasks(
    state: Shared,
    caller: Caller,
    name: Path<String>,
    request: HttpRequest,
    body: Body<wire::LeaseRequest>,
) -> Result<HttpResponse, Error> {
    let mut body = body.0;
    body.queue_names = caller.hold_to_queues(body.queue_names)?;
    let wait = convert::lease_wait(body.wait_seconds)?;
    let executor = executors::find(&state, &name).await?;
    if !executor.registration.target.is_worker() {
        let detail = "the service calls this executor by itself";
        return Err(Error::new(ErrorCode::ExecutorNotWorker, detail));
    }
    let wanted = convert::lease_request(executor.id, body)?;
    // The wait may be long, so do not keep the memory of the body for it.
    extract::make_room(&request);
    let begun = tokio::select! {
        // `biased`, with these three first: a client that is gone or may no longer take tasks must
        // not be given any, since their leases would be lost.
        biased;
        () = peer::gone(request) => Vec::new(),
        () = state.shut_out(&caller) => Vec::new(),
        () = state.stopping.cancelled() => Vec::new(),
        begun = state.store.lease(executor.id, wanted, wait) => begun?,
    };
    let mut claimed = Vec::with_capacity(begun.len());
    let mut shares: Option<Share> = None;
    for Held { value, share } in begun {
        state.traces.waited(&value.assignment, &value.executor);
        claimed.push(value);
        match &mut shares {
            Some(shares) => shares.join(share),
            None => shares = Some(share),
        }
    }
    answer::json(&state, HttpResponse::Ok(), shares, move || {
        let leases = claimed.into_iter().map(convert::wire_lease).collect::<Result<_, _>>()?;
        Ok(wire::LeaseList { leases })
    })
    .await
}

/// Finish several attempts
///
/// Like finishing each of them; one that cannot be recorded does not hold up the others.
#[utoipa::path(
    tag = "leases",
    operation_id = "finish_leases",
    security((), ("bearer" = ["work"])),
    request_body(content = wire::FinishBatch, example = json!(wire::examples::finish_batch())),
    responses(
        (status = 200, description = "What became of each, in order", body = wire::FinishAnswers,
            example = json!(wire::examples::finish_answers())),
        Problems<(Sent, Written)>,
    )
)]
#[post("/leases/finish")]
pub(super) async fn finish_leases(
    state: Shared,
    body: Reports<wire::FinishBatch>,
) -> Result<HttpResponse, Error> {
    let count = body.0.results.len();
    if count == 0 || count > usize::try_from(LEASES_MAX).unwrap_or(usize::MAX) {
        let reason = format!("needs 1 to {LEASES_MAX} entries");
        return Err(Invalid::new("results", reason).into());
    }
    let ends = body.0.results.into_iter().map(|entry| finish_entry(&state, entry));
    let results = futures_util::future::join_all(ends).await;
    Ok(HttpResponse::Ok().json(wire::FinishAnswers { results }))
}

async fn finish_entry(state: &Shared, entry: wire::FinishEntry) -> wire::FinishAnswer {
    let wire::FinishEntry { token, return_value, error, cancelled } = entry;
    let request = wire::FinishRequest { return_value, error, cancelled };
    let ended = match convert::outcome(request, state.limits.return_value_bytes_max) {
        Ok(outcome) => end(state, &token, outcome).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(ended) => wire::FinishAnswer {
            token,
            status: Some(convert::wire_status(ended.stage)),
            problem: None,
        },
        Err(error) => {
            wire::FinishAnswer { token, status: None, problem: Some(error.problem_of(&state.home)) }
        }
    }
}

/// Renew a lease
///
/// A heartbeat, to be sent well before the lease runs out. May carry progress and log lines.
#[utoipa::path(
    tag = "leases",
    operation_id = "renew_lease",
    security(()),
    params(OfLease),
    request_body(content = Option<wire::RenewRequest>, example = json!(wire::examples::renew_request())),
    responses(
        (status = 200, description = "The lease is longer now", body = wire::LeaseRenewal,
            example = json!(wire::examples::lease_renewal())),
        Problems<(Sent, AttemptOver, Written)>,
    )
)]
#[post("/leases/{token}/renew")]
pub(super) async fn renew_lease(
    state: Shared,
    path: Path<String>,
    body: Report<wire::RenewRequest>,
) -> Result<HttpResponse, Error> {
    let request = RenewRequest {
        token: token(&path)?,
        progress: body.0.progress.map(convert::progress).transpose()?,
        log: convert::log_lines(body.0.logs)?,
    };
    let renewal = state.store.report(request).await?.map_err(|_lost| lost())?;
    Ok(HttpResponse::Ok().json(wire::LeaseRenewal {
        expires_at: renewal.expires_at.into(),
        cancel_requested: renewal.cancel_requested,
    }))
}

/// Finish an attempt
///
/// With a return value, an error, or because it was cancelled. The answer is the task's record:
/// a task whose cancelling was asked for before is CANCELLED, whatever it finished with. One
/// whose return value is too large or too deep to keep is FAILED.
#[utoipa::path(
    tag = "leases",
    operation_id = "finish_lease",
    security(()),
    params(OfLease),
    request_body(content = wire::FinishRequest, example = json!(wire::examples::finish_request())),
    responses(
        (status = 200, description = "The end is recorded", body = wire::Task,
            example = json!(wire::examples::successful_task())),
        Problems<(Reported, AttemptOver, Written)>,
    )
)]
#[post("/leases/{token}/finish")]
pub(super) async fn finish_lease(
    state: Shared,
    path: Path<String>,
    body: Result<Report<wire::FinishRequest>, Error>,
) -> Result<HttpResponse, Error> {
    let limits = state.limits;
    let outcome = match body {
        Ok(Report(request)) => convert::outcome(request, limits.return_value_bytes_max)?,
        Err(error) if error.code() == ErrorCode::BodyTooLarge => {
            convert::too_large("the report", limits.report_bytes_max())
        }
        Err(error) => return Err(error),
    };
    let Ended { id, .. } = end(&state, &path, outcome).await?;
    let Held { value: task, share } = state.store.task_written(id).await?.ok_or_else(lost)?;
    let record = move || convert::wire_task(task);
    answer::json(&state, HttpResponse::Ok(), Some(share), record).await
}

/// Give a lease back
///
/// For an executor that shuts down before it began: the task waits again and no attempt is
/// counted.
#[utoipa::path(
    tag = "leases",
    operation_id = "release_lease",
    security(()),
    params(OfLease),
    responses(
        (status = 204, description = "The task waits again"),
        Problems<(AttemptOver, Written)>,
    )
)]
#[post("/leases/{token}/release")]
pub(super) async fn release_lease(
    state: Shared,
    path: Path<String>,
) -> Result<HttpResponse, Error> {
    end(&state, &path, Outcome::HandedBack).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn end(state: &Shared, path: &str, outcome: Outcome) -> Result<Ended, Error> {
    state.store.finish(token(path)?, outcome).await?.map_err(|_lost| lost())
}
