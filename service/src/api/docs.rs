//! Documentation for people: Swagger UI, which is compiled in so that it needs no other host, and
//! the list of error codes. All links are relative, so that they are right below any path of a
//! proxy.

use std::{fmt::Write, sync::LazyLock};

use actix_web::{
    HttpResponse, get,
    http::header::{self, ContentType},
    web::{Bytes, ServiceConfig},
};
use nightshift_openapi::ErrorCode;
use utoipa_swagger_ui::{Config, SwaggerUi};

#[get("/docs")]
async fn to_docs() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "docs/")).finish()
}

/// The page to which the `type` of a problem leads.
#[get("/docs/errors")]
async fn show_errors() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::html()).body(ERRORS.clone())
}

static ERRORS: LazyLock<Bytes> = LazyLock::new(|| {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <title>Nightshift: errors</title></head>\n<body>\n<h1>Errors</h1>\n",
    );
    for code in ErrorCode::ALL {
        let (name, status, title) = (code.name(), code.status(), code.title());
        let advice = in_html(code.advice());
        write!(page, "<h2 id=\"{name}\">{name}</h2>\n<p>{status}: {title}. {advice}</p>\n")
            .expect("a text takes more text");
    }
    page.push_str("</body>\n</html>\n");
    page.into()
});

/// Our own text as HTML, with the parts between backticks as code.
fn in_html(text: &str) -> String {
    let mut html = String::new();
    for (index, part) in text.split('`').enumerate() {
        match index % 2 {
            0 => html.push_str(part),
            _ => html.extend(["<code>", part, "</code>"]),
        }
    }
    html
}

/// Whether a path belongs to the documentation.
pub(super) fn is_at(path: &str) -> bool {
    path == "/docs" || path.starts_with("/docs/")
}

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(to_docs)
        .service(show_errors)
        .service(SwaggerUi::new("/docs/{_:.*}").config(Config::from("../openapi.json")));
}
