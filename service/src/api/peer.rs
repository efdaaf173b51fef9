//! Notices that whoever waits for an answer has gone away. The HTTP server does not tell: it
//! finishes the request, and what the answer holds is lost.

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

/// The connection of a request, only to be looked at.
struct Peer(OwnedFd);

/// How long a client may take nothing of what it is sent, or be gone without a word.
const STANDSTILL: Duration = Duration::from_secs(30);

/// Bytes of an answer that the kernel may hold beside what the service does: else it would take
/// megabytes for each client that reads nothing, which count as the service's memory.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Keeps the connection where its requests find it, and ends it where the client stands still: the
/// server waits for room to write without end.
pub fn remember(connection: &dyn Any, of_connection: &mut Extensions) {
    let below_tls = || connection.downcast_ref::<TlsStream<TcpStream>>().map(|tls| tls.get_ref().0);
    let stream = connection.downcast_ref::<TcpStream>().or_else(below_tls);
    if let Some(stream) = stream {
        let limit = u32::try_from(STANDSTILL.as_millis()).unwrap_or(u32::MAX);
        // Refused by nothing that this runs on; without it, only such clients live longer.
        set_tcp_user_timeout(stream, limit).ok();
        set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES).ok();
    }
    let socket = connection.downcast_ref::<UnixStream>().map(AsFd::as_fd);
    let copy = stream.map(AsFd::as_fd).or(socket).map(|stream| stream.try_clone_to_owned());
    if let Some(Ok(copy)) = copy {
        of_connection.insert(Peer(copy));
    }
}

/// Returns once the client has closed the connection, if that can be seen.
pub(super) async fn gone(request: HttpRequest) {
    let peer = request.conn_data::<Peer>().map(|peer| peer.0.try_clone());
    let Some(Ok(peer)) = peer else {
        return std::future::pending().await;
    };
    // Also of a Unix socket, since it is only waited for.
    let Ok(peer) = TcpStream::from_std(std::net::TcpStream::from(peer)) else {
        return std::future::pending().await;
    };
    loop {
        match peer.ready(Interest::READABLE).await {
            Ok(ready) if ready.is_read_closed() => return,
            // The next request, which is the server's to read: wait for what comes after it.
            Ok(_) => {
                let not_read = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                peer.try_io(Interest::READABLE, not_read).ok();
            }
            Err(_) => return std::future::pending().await,
        }
    }
}
