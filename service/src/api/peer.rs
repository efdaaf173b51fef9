//! Detects that the client of a waiting request has closed its connection. The HTTP server does not
//! report that: it would run the handler to its end, and the answer, with the leases in it, would
//! be lost.

use std::{
    any::Any,
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{
    HttpRequest,
    dev::Extensions,
    rt::net::{TcpStream, UnixStream},
};
use rustix::net::sockopt::{set_socket_send_buffer_size, set_tcp_user_timeout};
use tokio::io::Interest;

/// A copy of the connection's descriptor. It is only watched, and never read.
struct Peer(OwnedFd);

/// How long a client may accept no data, or be away without closing the connection.
const STANDSTILL: Duration = Duration::from_secs(30);

/// Bytes of an answer that the kernel may buffer. By default it may buffer megabytes for each
/// client that does not read, and they count as the service's memory.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Stores the connection where its requests can find it, and sets its limits. Without them, the
/// server would wait for ever to write to a client that reads nothing.
pub fn remember(connection: &dyn Any, of_connection: &mut Extensions) {
    let below_tls = || connection.downcast_ref::<TlsStream<TcpStream>>().map(|tls| tls.get_ref().0);
    let stream = connection.downcast_ref::<TcpStream>().or_else(below_tls);
    if let Some(stream) = stream {
        let limit = u32::try_from(STANDSTILL.as_millis()).unwrap_or(u32::MAX);
        // On Linux these do not fail. Without them, stalled connections only live longer.
        set_tcp_user_timeout(stream, limit).ok();
        set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES).ok();
    }
    let socket = connection.downcast_ref::<UnixStream>().map(AsFd::as_fd);
    let copy = stream.map(AsFd::as_fd).or(socket).map(|stream| stream.try_clone_to_owned());
    if let Some(Ok(copy)) = copy {
        of_connection.insert(Peer(copy));
    }
}

/// Returns once the client has closed the connection. Never returns if that cannot be detected.
pub(super) async fn gone(request: HttpRequest) {
    let peer = request.conn_data::<Peer>().map(|peer| peer.0.try_clone());
    let Some(Ok(peer)) = peer else {
        return std::future::pending().await;
    };
    // This also works for a Unix socket, since the descriptor is only polled.
    let Ok(peer) = TcpStream::from_std(std::net::TcpStream::from(peer)) else {
        return std::future::pending().await;
    };
    loop {
        match peer.ready(Interest::READABLE).await {
            Ok(ready) if ready.is_read_closed() => return,
            // The client has sent its next request, which the server will read. Clear the
            // readiness, to wait for what comes after it.
            Ok(_) => {
                let not_read = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                peer.try_io(Interest::READABLE, not_read).ok();
            }
            Err(_) => return std::future::pending().await,
        }
    }
}
