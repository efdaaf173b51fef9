use std::sync::OnceLock;

use actix_web::{HttpResponse, get, http::header::ContentType, web::Bytes};

use super::{Shared, document::set_servers, routes};

/// The text of the document as it is served, made when it is first asked for.
#[derive(Debug, Default)]
pub struct DocumentText(OnceLock<Bytes>);

/// This API as an OpenAPI document
///
/// Its `servers` are the place that the document was read from, and the setting `public_url`.
#[utoipa::path(
    tag = "service",
    operation_id = "get_openapi",
    security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Map<String, serde_json::Value>,
        example = json!({"openapi": "3.1.0", "info": {"title": "Nightshift", "version": "0.1.0"}, "paths": {}})))
)]
#[get("/openapi.json")]
pub(super) async fn get_openapi(state: Shared) -> HttpResponse {
    let text = state.document_text.0.get_or_init(|| {
        let mut document = routes::document();
        set_servers(&mut document, &state.home);
        document.to_json().expect("a document of plain data is JSON").into()
    });
    HttpResponse::Ok().content_type(ContentType::json()).body(text.clone())
}
