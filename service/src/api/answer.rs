//! Renders answers, and keeps the memory that they take accounted for until they are sent.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_web::{
    HttpMessage, HttpResponse, HttpResponseBuilder, ResponseError,
    body::{BodySize, BoxBody, MessageBody},
    dev::ServiceResponse,
    http::header::ContentType,
    web::{Bytes, Data},
};
use nightshift_openapi::ErrorCode;
use serde::Serialize;

use super::{Error, State, turn};
use crate::memory::{COPIES, Share};

/// An answer of at most this many bytes needs no room, since each connection may hold about as much
/// anyway. So a health check is answered even if all room is taken.
const SMALL_BYTES: usize = 64 * 1024;
/// The server is given an answer in pieces of this size, each after the one before was sent. It
/// would accept a large answer as a whole; then the room would be given back although the client
/// has not read the answer.
const PIECE_BYTES: usize = 32 * 1024;

/// Renders an answer as JSON. `share` is the room that was taken for the value of which it is made.
/// A large answer is made and written on another thread.
pub(super) async fn json<T: Serialize>(
    state: &State,
    mut answer: HttpResponseBuilder,
    share: Option<Share>,
    make: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<HttpResponse, Error> {
    let bytes = share.as_ref().map_or(0, |share| share.bytes() / COPIES);
    // The share moves into the closure, because the work goes on, and needs its memory, even if the
    // client is gone.
    let write = move || (make().and_then(|value| text(&value)), share);
    let (text, share) = turn::run(&state.turns, bytes, write).await?;
    let mut answer = answer.content_type(ContentType::json()).body(text?);
    if let Some(share) = share {
        answer.extensions_mut().insert(share);
    }
    Ok(answer)
}

fn text(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| {
        Error::new(ErrorCode::Internal, format!("the answer cannot be written as JSON: {error}"))
    })
}

/// A body that keeps its room until it is sent, or the client is gone.
pub struct Sending {
    body: BoxBody,
    /// The part that the server has not taken yet.
    rest: Bytes,
    _share: Option<Share>,
}

impl MessageBody for Sending {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            match ready!(this.body.as_pin_mut().poll_next(context)) {
                Some(Ok(chunk)) => this.rest = chunk,
                end => return Poll::Ready(end),
            }
        }
        let length = this.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(this.rest.split_to(length))))
    }
}

/// Takes room for the answer's body. If there is none, the request is refused.
pub(super) fn send(mut answer: ServiceResponse<BoxBody>) -> ServiceResponse<Sending> {
    let share = match room_of(&mut answer) {
        Ok(share) => share,
        Err(error) => {
            answer = answer.into_response(error.error_response());
            None
        }
    };
    answer.map_body(|_, body| Sending { body, rest: Bytes::new(), _share: share })
}

/// The room for the body: what is needed of the room that was taken to make the answer or to read
/// the request, or else new room.
fn room_of(answer: &mut ServiceResponse<BoxBody>) -> Result<Option<Share>, Error> {
    let made_of = answer.response_mut().extensions_mut().remove::<Share>();
    let read = answer.request().extensions_mut().remove::<Share>();
    let BodySize::Sized(length) = answer.response().body().size() else {
        return Ok(None);
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length <= SMALL_BYTES {
        return Ok(None);
    }
    if let Some(mut share) = made_of.or(read).filter(|share| share.bytes() >= length) {
        share.shrink(length);
        return Ok(Some(share));
    }
    let state = answer.request().app_data::<Data<State>>();
    match state.map(|state| state.memory.requests.take(length)) {
        Some(None) => Err(no_room()),
        share => Ok(share.flatten()),
    }
}

/// The problem if there is no room in memory.
pub(super) fn no_room() -> Error {
    Error::new(ErrorCode::Overloaded, "too much is being sent and received at once")
}
