//! The URL under which clients know the service, as far as answers contain it.
//!
//! A proxy may put a path in front of the service's own paths, which only the setting `public_url`
//! tells. The host is left to the client: executors may reach the service by another name than its
//! other clients.

use actix_web::{body::BoxBody, dev::ServiceResponse};
use url::Url;

use super::Error;

/// The service's own URL.
#[derive(Clone, Debug, Default)]
pub struct Home {
    /// The setting `public_url`, without a slash at its end.
    url: Option<String>,
    /// Its path, also without a slash at the end.
    path: String,
}

impl Home {
    /// `public` is the setting `public_url`.
    pub fn new(public: Option<&Url>) -> Self {
        let without_slash = |text: &str| text.trim_end_matches('/').to_owned();
        Self {
            url: public.map(|url| without_slash(url.as_str())),
            path: public.map(|url| without_slash(url.path())).unwrap_or_default(),
        }
    }

    /// The whole URL, if it is known.
    pub(super) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// A path of this API as clients outside of a proxy see it.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.path)
    }

    /// Puts the proxy's path in front of the `type` of a problem. The error itself does not know
    /// that path.
    pub(super) fn place_type(&self, answer: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        let error = answer.response().error().and_then(|error| error.as_error::<Error>());
        let error = error.filter(|_| !self.path.is_empty());
        match error.map(|error| serde_json::to_vec(&error.problem_of(self))) {
            Some(Ok(body)) => answer.map_body(|_, _| BoxBody::new(body)),
            Some(Err(_)) | None => answer,
        }
    }
}
