//! What is done around every request.

use actix_web::{
    Error as ActixError,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::Method,
    middleware::Next,
};
use tracing::Instrument;

/// Answers HEAD like GET, whose body the server then leaves out (RFC 9110, section 9.3.2), and
/// puts the request into the log.
pub async fn around(
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, ActixError> {
    let span = tracing::debug_span!("http.request", method = %request.method());
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    async {
        let answer = next.call(request).await?;
        // The pattern, not the path: that may hold a lease's token.
        let route = answer.request().match_pattern();
        tracing::debug!(route, status = answer.status().as_u16(), "answered");
        Ok(answer)
    }
    .instrument(span)
    .await
}
