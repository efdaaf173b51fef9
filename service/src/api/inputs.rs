//! Refuses inputs that an operation does not have: unknown query parameters, and a body where none
//! is read. If they were ignored, a client could believe that they had an effect.

use actix_web::{HttpMessage, dev::ServiceRequest};
use futures_util::StreamExt;
use nightshift_openapi::ErrorCode;
use serde_json::{Map, Value};
use url::form_urlencoded;
use utoipa::openapi::{
    RefOr,
    path::{Operation, Parameter, ParameterIn},
};

use super::{Error, State};

/// The inputs of an operation, as the document describes them.
#[derive(Debug)]
pub(super) struct Inputs {
    parameters: Vec<String>,
    has_body: bool,
}

/// The most bytes of a body that counts as empty, such as `{}` with white space. A longer one must
/// have content.
const NOTHING_BYTES_MAX: usize = 64;

impl Inputs {
    pub(super) fn of(operation: &Operation) -> Self {
        let in_query = |parameter: &RefOr<Parameter>| match parameter {
            RefOr::T(Parameter { name, parameter_in: ParameterIn::Query, .. }) => {
                Some(name.clone())
            }
            RefOr::T(_) | RefOr::Ref(_) => None,
        };
        let parameters = operation.parameters.iter().flatten().filter_map(in_query);
        Self { parameters: parameters.collect(), has_body: operation.request_body.is_some() }
    }

    pub(super) async fn check(
        &self,
        request: &mut ServiceRequest,
        state: &State,
    ) -> Result<(), Error> {
        self.check_query(request.query_string())?;
        if self.has_body || says_nothing(request, state).await {
            return Ok(());
        }
        let detail = format!("{} {} takes no body", request.method(), pattern(request));
        Err(Error::new(ErrorCode::UnexpectedBody, detail))
    }

    fn check_query(&self, query: &str) -> Result<(), Error> {
        let mut seen = Vec::new();
        for (name, _) in form_urlencoded::parse(query.as_bytes()) {
            if !self.parameters.iter().any(|known| *known == name) {
                let detail = format!("there is no parameter {name:?} here: {}", self.known());
                return Err(Error::of_parameter(&name, detail));
            }
            if seen.contains(&name) {
                return Err(Error::of_parameter(&name, format!("{name} is there twice")));
            }
            seen.push(name);
        }
        Ok(())
    }

    fn known(&self) -> String {
        match self.parameters.as_slice() {
            [] => "this operation takes none".to_owned(),
            some => format!("this operation takes {}", some.join(", ")),
        }
    }
}

/// The path pattern of the operation. The request's own path may hold a lease's token, which must
/// not be shown.
fn pattern(request: &ServiceRequest) -> String {
    request.match_pattern().unwrap_or_default()
}

/// Whether the request has no body, or one without content: many clients send `{}` or `null` if
/// they have nothing to send.
async fn says_nothing(request: &mut ServiceRequest, state: &State) -> bool {
    let mut payload = request.take_payload();
    let read = async {
        let mut body = Vec::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.ok()?;
            if body.len() + chunk.len() > NOTHING_BYTES_MAX {
                return None;
            }
            body.extend_from_slice(&chunk);
        }
        Some(body)
    };
    match tokio::time::timeout(state.limits.body_read_timeout, read).await {
        Ok(Some(body)) => is_nothing(&body),
        Ok(None) | Err(_) => false,
    }
}

fn is_nothing(body: &[u8]) -> bool {
    let fields = || serde_json::from_slice::<Option<Map<String, Value>>>(body);
    body.trim_ascii().is_empty()
        || fields().is_ok_and(|fields| fields.is_none_or(|fields| fields.is_empty()))
}
