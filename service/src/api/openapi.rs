//! `GET /openapi.json`: the OpenAPI document, in two versions.

use std::sync::OnceLock;

use actix_web::{HttpResponse, get, http::header::ContentType, web::Bytes};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{Error, Shared, document::set_servers, extract::Query, openapi_3_0, routes};

/// A version of OpenAPI.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
pub(super) enum OpenApiVersion {
    /// The whole document.
    #[default]
    #[serde(rename = "3.1")]
    V3_1,
    /// For tools that read no later version.
    #[serde(rename = "3.0")]
    V3_0,
}

/// Which form of the document to show.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OpenApiQuery {
    /// The version of OpenAPI, 3.1 by default. That of 3.0 has no webhooks, and is less exact about a
    /// few values.
    #[param(inline, example = "3.0")]
    version: Option<OpenApiVersion>,
}

/// The texts of the document. Each is built at the first request for it.
#[derive(Debug, Default)]
pub struct DocumentTexts {
    newest: OnceLock<Bytes>,
    of_3_0: OnceLock<Bytes>,
}

/// This API as an OpenAPI document
///
/// Its `servers` are the place that the document was read from, and the setting `public_url`.
#[utoipa::path(
    tag = "service",
    operation_id = "get_openapi",
    security(()),
    params(OpenApiQuery),
    responses((status = 200, description = "OpenAPI 3.1, or what was asked for", body = serde_json::Map<String, serde_json::Value>,
        example = json!({"openapi": "3.1.0", "info": {"title": "Nightshift", "version": "0.1.0"}, "paths": {}})))
)]
#[get("/openapi.json")]
pub(super) async fn get_openapi(
    state: Shared,
    query: Query<OpenApiQuery>,
) -> Result<HttpResponse, Error> {
    let document = || {
        let mut document = routes::document();
        set_servers(&mut document, &state.home);
        document
    };
    let text = match query.0.version.unwrap_or_default() {
        OpenApiVersion::V3_1 => state.document_texts.newest.get_or_init(|| text(&document())),
        OpenApiVersion::V3_0 => {
            let convert = || text(&openapi_3_0::convert(&document()));
            state.document_texts.of_3_0.get_or_init(convert)
        }
    };
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(text.clone()))
}

fn text(document: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(document).expect("a document of plain data is JSON").into()
}
