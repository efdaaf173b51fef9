//! Admits a request if its token is valid for the operation, and if the operation has all inputs
//! that the request carries.
//!
//! The OpenAPI document says which token and which inputs an operation needs. The document is built
//! from the same list as the routes; a route that is missing in it admits no request.

use std::{
    collections::HashMap,
    future::{Ready, ready},
    sync::LazyLock,
};

use actix_web::{
    Error as ActixError, FromRequest, HttpMessage, HttpRequest,
    body::{EitherBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::{Method, header::AUTHORIZATION},
    middleware::Next,
    web::Data,
};
use nightshift_openapi::ErrorCode;
use utoipa::openapi::security::SecurityRequirement;

use super::{Error, State, convert::ALL_QUEUES, docs, inputs::Inputs, routes, tasks::not_found};
use crate::{
    access::{Caller, Refused},
    domain::{names::QueueName, task::TaskId, token::Scope},
    store::Note,
};

/// The token that an operation needs.
#[derive(Clone, Copy, Debug)]
enum Need {
    /// No token; or the lease's token in its path, which the operation checks itself.
    Nothing,
    Scope {
        scope: Scope,
        /// Whether a token that is bound to some queues is accepted. Then the operation checks the
        /// queue.
        bound: bool,
    },
}

/// An operation, as the document describes it.
struct Known {
    need: Need,
    inputs: Inputs,
}

static KNOWN: LazyLock<HashMap<(String, Method), Known>> = LazyLock::new(|| {
    let document = routes::document();
    let usual = document.security.unwrap_or_default();
    let mut known = HashMap::new();
    for (path, item) in document.paths.paths {
        for (method, operation) in routes::operations(&item) {
            let security = operation.security.as_ref().unwrap_or(&usual);
            let tags = operation.tags.as_deref().unwrap_or_default();
            let of_this = Known { need: need(security, tags), inputs: Inputs::of(operation) };
            known.insert((path.clone(), method), of_this);
        }
    }
    known
});

/// Tags of operations that concern one queue each, or can be limited to some queues.
const BY_QUEUE: [&str; 4] = ["tasks", "events", "queues", "leases"];

fn need(security: &[SecurityRequirement], tags: &[String]) -> Need {
    if security == [SecurityRequirement::default()] {
        return Need::Nothing;
    }
    let is_for = |scope: &Scope| security.contains(&requirement(*scope));
    let scope = Scope::ALL.into_iter().find(is_for).unwrap_or(Scope::Admin);
    let bound = tags.iter().any(|tag| BY_QUEUE.contains(&tag.as_str()));
    Need::Scope { scope, bound }
}

/// The requirement by which the document states that a token with the scope is needed.
fn requirement(scope: Scope) -> SecurityRequirement {
    SecurityRequirement::new("bearer", [scope.name()])
}

/// Lets the request go on if its token is valid for the operation and its inputs are known.
pub async fn admit<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, ActixError> {
    // A refusal is returned as an ordinary answer, so that the outer middleware counts it and adds
    // the CORS headers that let web pages read it.
    match check(&mut request).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            Ok(next.call(request).await?.map_into_left_body())
        }
        Err(error) => Ok(request.error_response(error).map_into_right_body()),
    }
}

async fn check(request: &mut ServiceRequest) -> Result<Caller, Error> {
    let state = request
        .app_data::<Data<State>>()
        .cloned()
        .ok_or_else(|| Error::new(ErrorCode::Internal, "the service is not set up"))?;
    // Routes are matched by the path as it was sent. A path in another spelling is unknown.
    let known =
        request.match_pattern().and_then(|path| KNOWN.get(&(path, request.method().clone())));
    let caller = check_caller(request, &state, known.map(|known| known.need))?;
    if let Some(known) = known {
        known.inputs.check(request, &state).await?;
    }
    Ok(caller)
}

fn check_caller(
    request: &ServiceRequest,
    state: &State,
    need: Option<Need>,
) -> Result<Caller, Error> {
    let address = request.peer_addr().map(|address| address.ip());
    let token = bearer(request);
    let now = state.clock.now();
    let open = matches!(need, Some(Need::Nothing)) || docs::is_at(request.path());
    if open && token.is_none() {
        return Ok(Caller::nobody(address));
    }
    let caller = state.access.caller(token, address, now).map_err(refused)?;
    match need {
        Some(Need::Scope { scope, bound }) => check_scope(&caller, scope, bound)?,
        // Refuse an unknown path here. The router may normalise the path and find a route that was
        // not checked.
        None if !open && state.access.is_on() => return Err(routes::nothing_for(request.path())),
        Some(Need::Nothing) | None => {}
    }
    Ok(caller)
}

fn check_scope(caller: &Caller, scope: Scope, bound: bool) -> Result<(), Error> {
    if !caller.may(scope) {
        let detail = format!("the token needs the scope {}", scope.name());
        return Err(Error::new(ErrorCode::Forbidden, detail));
    }
    if !bound && caller.queue_names.is_some() {
        let detail = "the token is bound to queues, and this is about all of them";
        return Err(Error::new(ErrorCode::Forbidden, detail));
    }
    Ok(())
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750). A header of another form counts as an
/// empty token, so that it is refused.
fn bearer(request: &ServiceRequest) -> Option<&str> {
    let header = request.headers().get(AUTHORIZATION)?.to_str().unwrap_or_default();
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    Some(if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" })
}

pub(super) fn refused(refused: Refused) -> Error {
    match refused {
        Refused::NoToken => Error::new(ErrorCode::Unauthorized, "the request has no token"),
        Refused::WrongToken => {
            Error::new(ErrorCode::Unauthorized, "the token is unknown, expired or revoked")
        }
        Refused::TooManyGuesses => {
            Error::new(ErrorCode::TooManyGuesses, "too many wrong tokens from this address")
        }
    }
}

impl FromRequest for Caller {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        ready(caller.ok_or_else(|| Error::new(ErrorCode::Internal, "nobody let the request in")))
    }
}

impl Caller {
    /// The entry of the audit log, for the case that the action is carried out.
    pub(super) fn note(&self, action: &'static str, object: &impl ToString) -> Note {
        Note { actor: self.actor.clone(), action, object: object.to_string() }
    }

    /// Returns `id` if the caller may use the task. Otherwise the task is treated as if it did not
    /// exist.
    pub(super) async fn task(&self, state: &State, id: TaskId) -> Result<TaskId, Error> {
        if self.queue_names.is_none() {
            return Ok(id);
        }
        let queue_name = state.store.queue_of(id).await?;
        if queue_name.is_some_and(|name| self.may_use(&name)) { Ok(id) } else { Err(not_found()) }
    }

    /// Whether the caller may use tasks of the queue.
    pub(super) fn check_queue(&self, queue_name: &str) -> Result<(), Error> {
        if self.may_use(queue_name) {
            return Ok(());
        }
        let detail = format!("the token is not for the queue {queue_name}");
        Err(Error::new(ErrorCode::Forbidden, detail))
    }

    /// The queue by which a list is filtered: the one that was asked for, or the caller's only one.
    pub(super) fn hold_to_queue(&self, asked: Option<String>) -> Result<Option<String>, Error> {
        match (&asked, self.queue_names.as_deref()) {
            (_, None) => Ok(asked),
            (Some(name), Some(_)) => self.check_queue(name).map(|()| asked),
            (None, Some([only])) => Ok(Some(only.as_str().to_owned())),
            (None, Some(_)) => {
                let detail = "the token is bound to several queues: ask for one by queue_name";
                Err(Error::new(ErrorCode::Forbidden, detail))
            }
        }
    }

    /// The queues from which tasks are taken: those that were asked for, if the caller may use all
    /// of them, or all that the caller may use.
    pub(super) fn hold_to_queues(
        &self,
        asked: Option<Vec<String>>,
    ) -> Result<Option<Vec<String>>, Error> {
        let Some(bound) = self.queue_names.as_deref() else {
            return Ok(asked);
        };
        let all = |names: &Vec<String>| names.iter().any(|name| name == ALL_QUEUES);
        let Some(asked) = asked.filter(|names| !all(names)) else {
            return Ok(Some(bound.iter().map(QueueName::to_string).collect()));
        };
        asked.iter().try_for_each(|name| self.check_queue(name))?;
        Ok(Some(asked))
    }
}
