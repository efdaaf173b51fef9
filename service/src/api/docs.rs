//! The API for people: Swagger UI, compiled in, so that it needs no other host.

use actix_web::{HttpResponse, get, http::header, web::ServiceConfig};
use utoipa_swagger_ui::{Config, SwaggerUi};

#[get("/docs")]
async fn to_docs() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

/// Whether a path is one of the documentation's.
pub(super) fn is_at(path: &str) -> bool {
    path == "/docs" || path.starts_with("/docs/")
}

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(to_docs)
        .service(SwaggerUi::new("/docs/{_:.*}").config(Config::from("/openapi.json")));
}
