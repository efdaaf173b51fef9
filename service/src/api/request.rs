//! What is done around every request.

use std::time::Instant;

use actix_web::{
    Error as ActixError,
    body::{BodySize, BoxBody, EitherBody, MessageBody},
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
    let is_head = request.method() == Method::HEAD;
    if is_head {
        request.head_mut().method = Method::GET;
    }
    // The server closes the connection of a request that offered HTTP/2 or another protocol. Java's
    // client offers it with each request; unless it is told, it sends the next one into the void.
    let closes = request.head().upgrade();
    async {
        let mut answer = match check_doors(&request) {
            Ok(()) => without_stream(is_head, next.call(request).await?),
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

/// The server waits for the end of a body even if it leaves it out, and a stream has none.
fn without_stream<B: MessageBody>(
    is_head: bool,
    answer: ServiceResponse<B>,
) -> ServiceResponse<EitherBody<B>> {
    if is_head && matches!(answer.response().body().size(), BodySize::Stream) {
        return answer.map_body(|_, _| EitherBody::right(BoxBody::new(())));
    }
    answer.map_into_left_body()
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
