//! Reads query parameters and bodies, with limits on size, time and memory.

use std::{borrow::Cow, future::Future, pin::Pin};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::header::{CONTENT_ENCODING, CONTENT_LENGTH},
    web::{self, Bytes, BytesMut},
};
use futures_util::StreamExt;
use nightshift_openapi::ErrorCode;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::{Path, Segment};
use url::form_urlencoded;

use super::{Error, State, answer, turn, words};
use crate::{
    domain::{json::without_lone_surrogates, limits::POINTER_KEY_BYTES_MAX},
    memory::{COPIES, Memory, Share},
};

/// A JSON body. It is required.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest for Body<T> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let bytes_max = state(&request)?.limits.body_bytes_max;
            let bytes = read_json(&request, payload, Lot::Open(bytes_max)).await?;
            aside(state(&request)?, bytes, |bytes| parse(bytes)).await.map(Self)
        })
    }
}

/// A report of an executor. Without a body, it is the default value.
pub(super) struct Report<T>(pub(super) T);

/// Reports of several attempts at once.
pub(super) struct Reports<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest for Reports<T> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let bytes_max = state(&request)?.limits.batch_bytes_max;
            let bytes = read_json(&request, payload, Lot::Report(bytes_max)).await?;
            aside(state(&request)?, bytes, |bytes| parse_report(bytes)).await.map(Self)
        })
    }
}

impl<T: DeserializeOwned + Default + Send + 'static> FromRequest for Report<T> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let bytes_max = state(&request)?.limits.report_bytes_max();
            let bytes = read(&request, payload, Lot::Report(bytes_max)).await?;
            if matches!(bytes.trim_ascii(), b"" | b"null") {
                return Ok(Self(T::default()));
            }
            if !has_type(&request, JSON) {
                return Err(unsupported(&request, JSON));
            }
            aside(state(&request)?, bytes, |bytes| parse_report(bytes)).await.map(Self)
        })
    }
}

/// Query parameters. Unknown ones are refused.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Error;
    type Future = std::future::Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(parse_query(request.query_string()).map(Self))
    }
}

fn parse_query<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(text.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| match error.path().iter().next() {
        Some(Segment::Map { key }) => {
            Error::of_parameter(key, words::of_parameter(key, &error.inner().to_string()))
        }
        Some(_) | None => Error::new(ErrorCode::InvalidQuery, error.inner().to_string()),
    })
}

fn state(request: &HttpRequest) -> Result<&State, Error> {
    request
        .app_data::<web::Data<State>>()
        .map(web::Data::get_ref)
        .ok_or_else(|| Error::new(ErrorCode::Internal, "the service is not set up"))
}

const JSON: &str = "application/json";

/// Whether the request states this media type for its body. Media types are compared without regard
/// to case (RFC 9110, section 8.3.1).
pub(super) fn has_type(request: &HttpRequest, media_type: &str) -> bool {
    request.content_type().eq_ignore_ascii_case(media_type)
}

pub(super) fn unsupported(request: &HttpRequest, wanted: &str) -> Error {
    let detail = format!("the content type is {:?}, not {wanted}", request.content_type());
    Error::new(ErrorCode::UnsupportedMediaType, detail)
}

/// The most bytes that a body may have, and the memory that it may use.
#[derive(Clone, Copy)]
pub(super) enum Lot {
    Open(usize),
    /// The body is a report of an executor, which may also use the memory that is kept for reports.
    Report(usize),
}

impl Lot {
    fn bytes_max(self) -> usize {
        match self {
            Self::Open(bytes_max) | Self::Report(bytes_max) => bytes_max,
        }
    }

    fn take(self, memory: &Memory, bytes: usize) -> Result<Share, Error> {
        let share = match self {
            Self::Open(_) => memory.requests.take(bytes),
            Self::Report(_) => memory.requests.take_urgent(bytes),
        };
        share.ok_or_else(answer::no_room)
    }
}

/// Reads the whole body, if the request states that it is JSON.
async fn read_json(request: &HttpRequest, payload: Payload, lot: Lot) -> Result<Bytes, Error> {
    if !has_type(request, JSON) {
        return Err(unsupported(request, JSON));
    }
    read(request, payload, lot).await
}

/// Reads the whole body, if it is small enough and arrives in time. Its memory is given back when
/// the request has been answered.
pub(super) async fn read(
    request: &HttpRequest,
    payload: Payload,
    lot: Lot,
) -> Result<Bytes, Error> {
    check_encoding(request)?;
    let state = state(request)?;
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if announced.and_then(|length| length.parse().ok()) > Some(lot.bytes_max()) {
        return Err(too_large(lot));
    }
    let limit = state.limits.body_read_timeout;
    match tokio::time::timeout(limit, collect(payload, lot, &state.memory)).await {
        Ok(read) => {
            let (body, room) = read?;
            request.extensions_mut().insert(room);
            Ok(body)
        }
        Err(_elapsed) => {
            let detail = format!("the body did not arrive within {} s", limit.as_secs());
            Err(Error::new(ErrorCode::BodyTimeout, detail))
        }
    }
}

/// Refuses encoded bodies. They are not decompressed, since a few bytes could expand until the
/// memory is full.
fn check_encoding(request: &HttpRequest) -> Result<(), Error> {
    for codings in request.headers().get_all(CONTENT_ENCODING) {
        let codings = String::from_utf8_lossy(codings.as_bytes());
        let mut codings = codings.split(',').map(str::trim).filter(|coding| !coding.is_empty());
        if let Some(other) = codings.find(|coding| !coding.eq_ignore_ascii_case("identity")) {
            let detail = format!("the body is said to be encoded as {other:?}");
            return Err(Error::new(ErrorCode::UnsupportedEncoding, detail));
        }
    }
    Ok(())
}

/// Gives back the memory of the request's body early, for a request that waits.
pub(super) fn make_room(request: &HttpRequest) {
    drop(take_room(request));
}

/// Takes the memory of the request's body, for a value that was made of it.
pub(super) fn take_room(request: &HttpRequest) -> Option<Share> {
    request.extensions_mut().remove()
}

/// Reads the body. The memory for it is taken chunk by chunk, so that a client has to send bytes to
/// take memory.
async fn collect(mut payload: Payload, lot: Lot, memory: &Memory) -> Result<(Bytes, Share), Error> {
    let mut room = lot.take(memory, 0)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            Error::new(ErrorCode::MalformedJson, format!("the body broke off: {error}"))
        })?;
        let length = body.len() + chunk.len();
        if length > lot.bytes_max() {
            return Err(too_large(lot));
        }
        let wanted = length.saturating_mul(COPIES);
        if wanted > room.bytes() {
            room.join(lot.take(memory, wanted - room.bytes())?);
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body.freeze(), room))
}

fn too_large(lot: Lot) -> Error {
    let detail = format!("the body has more than {} bytes", lot.bytes_max());
    Error::new(ErrorCode::BodyTooLarge, detail)
}

/// Parses a body. A large one is parsed on another thread.
pub(super) async fn aside<T: Send + 'static>(
    state: &State,
    bytes: Bytes,
    parse: impl FnOnce(&Bytes) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    turn::run(&state.turns, bytes.len(), move || parse(&bytes)).await?
}

/// Parses JSON. An error names the place in the text, and the place in the value if it is known.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // Serde's derived code would also accept an array for a struct, field by field.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::new(ErrorCode::InvalidField, "the body must be an object").at(""));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        refused(bytes, error.inner(), &pointer).at(pointer)
    })?;
    deserializer.end().map_err(|error| refused(bytes, &error, ""))?;
    Ok(value)
}

/// Like [`parse`], for reports of executors. A lone half of a surrogate pair becomes U+FFFD, so
/// that one odd character does not lose the end of an attempt. JSON values inside the report are
/// kept as they are.
fn parse_report<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    parse(bytes).or_else(|error| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(error);
        };
        match without_lone_surrogates(text) {
            Cow::Borrowed(_) => Err(error),
            Cow::Owned(mended) => parse(mended.as_bytes()),
        }
    })
}

fn refused(bytes: &[u8], error: &serde_json::Error, pointer: &str) -> Error {
    // If a text from a fixed list is expected and a number comes, the parser reports a syntax
    // error, although the text is valid JSON.
    let is_no_word =
        || words::says_no_value(error) && serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    let is_field = error.is_data() || is_no_word();
    let code = if is_field { ErrorCode::InvalidField } else { ErrorCode::MalformedJson };
    Error::new(code, words::of_body(error, pointer, code))
}

/// The place in the body as a JSON pointer (RFC 6901).
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        let name = match segment {
            Segment::Seq { index } => index.to_string(),
            // No field has so long a name, so the error is about the object that holds it.
            Segment::Map { key } if key.len() > POINTER_KEY_BYTES_MAX => break,
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { variant } => variant.clone(),
            // The same for a key that could not be read.
            Segment::Unknown => break,
        };
        pointer.push('/');
        pointer.push_str(&name);
    }
    pointer
}
