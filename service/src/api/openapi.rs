use actix_web::{
    HttpResponse, get,
    web::{Bytes, Data},
};

/// The text of the document, as it is served.
pub(super) struct Text(pub(super) Bytes);

/// This API as an OpenAPI document
#[utoipa::path(
    tag = "service",
    operation_id = "get_openapi",
    security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Map<String, serde_json::Value>,
        example = json!({"openapi": "3.1.0", "info": {"title": "Nightshift", "version": "0.1.0"}, "paths": {}})))
)]
#[get("/openapi.json")]
pub(super) async fn get_openapi(text: Data<Text>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(text.0.clone())
}
