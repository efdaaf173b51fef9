//! What is done around every request.

use std::time::Instant;

use actix_web::{
    Error as ActixError,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{ConnectionType, Method},
    middleware::Next,
    web::Data,
};
use nightshift_openapi::ErrorCode;
use tracing::Instrument;

use super::{Error, State};

/// Refuses what does not come in by the right door, answers HEAD like GET, whose body the server
/// then leaves out (RFC 9110, section 9.3.2), says so when the connection ends, and puts the
/// request into the log.
pub async fn around<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, ActixError> {
    let begun = Instant::now();
    let method = method_name(request.method());
    let span = tracing::debug_span!("http.request", method = %request.method());
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    // The server closes the connection of a request that offered HTTP/2 or another protocol. Java's
    // client offers it with each request; unless it is told, it sends the next one into the void.
    let closes = request.head().upgrade();
    async {
        let mut answer = match check_doors(&request) {
            Ok(()) => next.call(request).await?.map_into_left_body(),
            Err(error) => request.error_response(error).map_into_right_body(),
        };
        if closes {
            answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
        // The pattern, not the path: that may hold a lease's token.
        let route = answer.request().match_pattern();
        let status = answer.status().as_u16();
        tracing::debug!(route, status, "answered");
        if let Some(state) = answer.request().app_data::<Data<State>>() {
            state.metrics.answered(method, route, status, begun.elapsed());
        }
        Ok(answer)
    }
    .instrument(span)
    .await
}

/// The method as a label: a client may send any word.
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
