//! Server-Sent Events (WHATWG HTML, section 9.2): how they are written, and the stream of them.
//!
//! Written by hand because a thousand readers are to share the text of each event: a library
//! would write it for each.

use std::{convert::Infallible, ops::Range, pin::Pin, time::Duration};

use actix_web::{
    HttpResponse,
    http::header::HeaderName,
    web::{Bytes, BytesMut},
};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::OwnedSemaphorePermit;

use super::{Shared, convert::wire_event};
use crate::{access::Caller, domain::event::TaskEvent};

/// A comment after so much silence shows that the connection is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What the server takes at once from a stream, about: a reader that stands still holds so much.
const PIECE_BYTES: usize = 32 * 1024;
/// Told first: how soon to come back, in milliseconds, after the connection broke.
const OPENING: &[u8] = b"retry: 1000\n\n";
const COMMENT: &[u8] = b": still here\n\n";
/// Without an id, so that it is no place to come back to.
pub(super) const RESET: &[u8] = b"event: reset\ndata: {\"reason\":\"events_are_gone\"}\n\n";

/// What a source of events has next; `None` after the last.
pub(super) type Next = Option<Vec<Bytes>>;

/// Where events come from.
pub(super) trait Source: 'static {
    fn next(&mut self) -> impl Future<Output = Next>;
}

/// Writes one event.
pub(super) fn write(id: &str, event: &TaskEvent, to: &mut BytesMut) {
    let event = wire_event(event);
    let data = serde_json::to_string(&event).expect("an event of plain data is JSON");
    let text = format!("event: {}\nid: {id}\ndata: {data}\n\n", event.event_type);
    to.extend_from_slice(text.as_bytes());
}

/// Cuts what is wanted out of a text of events, neighbours together.
pub(super) fn pieces(text: &Bytes, wanted: impl Iterator<Item = Range<usize>>) -> Vec<Bytes> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    for event in wanted {
        match pieces.last_mut() {
            Some(piece) if piece.end == event.start && event.end - piece.start <= PIECE_BYTES => {
                piece.end = event.end;
            }
            _ => pieces.push(event),
        }
    }
    pieces.into_iter().map(|piece| text.slice(piece)).collect()
}

/// Answers with all that the source has, until it ends, the reader leaves, the reader's token does
/// not hold any more or the service stops.
pub(super) fn respond(
    state: Shared,
    caller: Caller,
    permit: OwnedSemaphorePermit,
    source: impl Source,
) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/event-stream; charset=utf-8")
        // Asks nginx not to hold events back.
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(body(state, caller, permit, source))
}

fn body(
    state: Shared,
    caller: Caller,
    permit: OwnedSemaphorePermit,
    source: impl Source,
) -> Pin<Box<dyn Stream<Item = Result<Bytes, Infallible>>>> {
    let reading = (state, caller, source, permit);
    let parts = stream::unfold(reading, |(state, caller, mut source, permit)| async move {
        let next = tokio::select! {
            next = source.next() => next,
            () = state.stopping.cancelled() => None,
            () = state.clock.sleep(KEEP_ALIVE) => Some(vec![Bytes::from_static(COMMENT)]),
        };
        let next = next.filter(|_| state.access.still_admits(&caller, state.clock.now()));
        next.map(|pieces| (stream::iter(pieces), (state, caller, source, permit)))
    });
    let opening = stream::iter([Bytes::from_static(OPENING)]);
    opening.chain(parts.flatten()).map(Ok).boxed_local()
}
