//! The middleware around every request.

use std::time::Instant;

use actix_web::{
    Error as ActixError, HttpMessage,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        ConnectionType, Method, Version,
        header::{self, HeaderValue},
    },
    middleware::Next,
    web::Data,
};
use nightshift_openapi::ErrorCode;
use tracing::Instrument;
use uuid::Uuid;

use super::{
    Error, State,
    answer::{self, Sending},
    docs,
};
use crate::access::Caller;

/// Headers of every answer: pages must not be shown in frames of other sites, and browsers must not
/// guess other media types.
const GUARDS: [(header::HeaderName, &str); 3] = [
    (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // For browsers that do not know the first one.
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// Handles all that is common to requests: refuses unknown hosts and origins, answers HEAD like GET
/// (the server then leaves out the body, RFC 9110, section 9.3.2), announces when the connection
/// will be closed, takes memory for the answer, sets headers, and logs and counts the request.
pub async fn around<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Sending>, ActixError> {
    let begun = Instant::now();
    let method = method_name(request.method());
    let span = tracing::debug_span!("http.request", method = %request.method());
    let is_head = request.method() == Method::HEAD;
    if is_head {
        request.head_mut().method = Method::GET;
    }
    // The server closes the connection of a request that offers an upgrade, such as to HTTP/2.
    // Java's client offers one in each request, and without `Connection: close` it sends the next
    // request into the closed connection.
    let closes = request.head().upgrade() || is_stopping(&request);
    async {
        let mut answer = match check_doors(&request) {
            Ok(()) => next.call(request).await?.map_into_boxed_body(),
            Err(error) => request.error_response(error),
        };
        if answer.response().error().is_some()
            && let Some(state) = answer.request().app_data::<Data<State>>().cloned()
        {
            answer = state.home.place_type(answer);
        }
        if matches!(answer.response().body().size(), BodySize::Stream) {
            answer = as_stream(is_head, answer);
        }
        let mut answer = answer::send(answer);
        if closes {
            answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
        for (name, value) in GUARDS {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        // Use the path's pattern, not the path, which may hold a lease's token.
        let route = answer.request().match_pattern();
        if !may_be_kept(route.as_deref()) {
            let headers = answer.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        let status = answer.status().as_u16();
        if tracing::enabled!(tracing::Level::DEBUG) {
            log(&answer, route.as_deref(), begun);
        }
        if let Some(state) = answer.request().app_data::<Data<State>>() {
            state.metrics.answered(method, route, status, begun.elapsed());
        }
        Ok(answer)
    }
    .instrument(span)
    .await
}

/// Logs an answered request. The caller is known only if the request was admitted.
fn log(answer: &ServiceResponse<Sending>, route: Option<&str>, begun: Instant) {
    let request = answer.request();
    let extensions = request.extensions();
    let token = extensions.get::<Caller>().map(|caller| caller.actor.name.as_str());
    let address = request.peer_addr().map(|address| address.ip().to_string());
    let task = task_id(answer, route);
    let traceparent = request.headers().get("traceparent");
    let trace = traceparent.and_then(|header| trace_id(header.to_str().ok()?));
    tracing::debug!(
        route,
        status = answer.status().as_u16(),
        duration_ms = begun.elapsed().as_secs_f64() * 1_000.0,
        client.address = address,
        token.name = token,
        task.id = task,
        trace.id = trace,
        "answered"
    );
}

/// The id of the task that a request is about: the one in its path, or the one that it has created.
fn task_id(answer: &ServiceResponse<Sending>, route: Option<&str>) -> Option<String> {
    let route = route?;
    if route.starts_with("/tasks/{id}") {
        // Parse it, since a text that is no id may be long and hold anything.
        let id: Uuid = answer.request().match_info().get("id")?.parse().ok()?;
        return Some(id.to_string());
    }
    let location = answer.headers().get(header::LOCATION).filter(|_| route == "/tasks")?;
    Some(location.to_str().ok()?.rsplit_once('/')?.1.to_owned())
}

/// The id of the trace that the request belongs to (W3C Trace Context).
fn trace_id(traceparent: &str) -> Option<&str> {
    let id = traceparent.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// Whether the service is stopping. A connection that is kept open would then be cut in the middle
/// of a later request.
fn is_stopping(request: &ServiceRequest) -> bool {
    let state = request.app_data::<Data<State>>();
    state.is_some_and(|state| state.stopping.is_cancelled())
}

/// Whether caches may store the answer. Answers about tasks change all the time, and may hold
/// tokens of leases, secrets, and arguments of tasks.
fn may_be_kept(route: Option<&str>) -> bool {
    route.is_some_and(|route| route == "/openapi.json" || docs::is_at(route))
}

/// Prepares an answer of unknown length.
fn as_stream(is_head: bool, mut answer: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    // For HEAD, the server omits the body but waits for its end, and a stream has no end.
    if is_head {
        return answer.map_body(|_, _| BoxBody::new(()));
    }
    if answer.request().version() < Version::HTTP_11 {
        // HTTP/1.0 has no chunks: the body ends with the connection.
        let head = answer.response_mut().head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
    answer
}

/// The method as a metric's label. Other words are counted as one, since a client may send any.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn check_doors(request: &ServiceRequest) -> Result<(), Error> {
    match request.app_data::<Data<State>>() {
        Some(state) => state.doors.check(request),
        None => Err(Error::new(ErrorCode::Internal, "the service has no state")),
    }
}
