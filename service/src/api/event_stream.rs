//! Writes Server-Sent Events (WHATWG HTML, section 9.2), and streams them to readers.
//!
//! No library is used, because it would write the text of an event once for each reader; here a
//! thousand readers share one text.

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

/// After this time without an event, a comment is sent to show that the connection works.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The most bytes, about, that the server takes from a stream at once, and so that a reader which
/// does not read keeps in memory.
const PIECE_BYTES: usize = 32 * 1024;
/// Sent first: how soon to reconnect after the connection broke, in milliseconds.
const OPENING: &[u8] = b"retry: 1000\n\n";
const COMMENT: &[u8] = b": still here\n\n";
/// Has no id, so that a reader does not take it for a position to reconnect at.
pub(super) const RESET: &[u8] = b"event: reset\ndata: {\"reason\":\"events_are_gone\"}\n\n";

/// The next pieces of a source, or `None` after the last one.
pub(super) type Next = Option<Vec<Bytes>>;

/// A source of events.
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

/// Cuts the wanted events out of a text. Neighbouring ones stay together in pieces.
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

/// Answers with the events of a source, until it ends, the reader leaves, the reader's token
/// becomes invalid, or the service stops.
pub(super) fn respond(
    state: Shared,
    caller: Caller,
    permit: OwnedSemaphorePermit,
    source: impl Source,
) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/event-stream; charset=utf-8")
        // Asks nginx not to buffer the events.
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
