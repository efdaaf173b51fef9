use std::{io, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::net::{TcpStream, lookup_host};
use url::Url;

use super::report::Check;
use crate::{domain::executor::is_refused_address, store::Called};

/// How long finding a host, and connecting to it, may take in all.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Executors that are tried at once.
const AT_ONCE: usize = 16;

/// Whether each executor's host is known and its port accepts a connection. No task is sent.
pub(super) async fn checks(executors: &[Called]) -> Vec<Check> {
    stream::iter(executors).map(check).buffered(AT_ONCE).collect().await
}

async fn check(executor: &Called) -> Check {
    let name = format!("executor {}", executor.name);
    let Some(url) = executor.url.as_deref().and_then(|url| Url::parse(url).ok()) else {
        return Check::fail(name, "its address cannot be read");
    };
    // The rest of the address may hold what is nobody's business.
    let place = url.origin().ascii_serialization();
    let reached = match tokio::time::timeout(TIMEOUT, connect(&url)).await {
        Ok(reached) => reached,
        Err(_elapsed) => Err(io::Error::other("no answer within 5 s")),
    };
    match (reached, &executor.hold_reason) {
        (Err(error), _) => Check::fail(name, format!("{place} cannot be reached: {error}")),
        (Ok(()), Some(reason)) => Check::warn(
            name,
            format!("{place} accepts connections, but deliveries are held back: {reason}"),
        ),
        (Ok(()), None) => Check::ok(name, format!("{place} accepts connections")),
    }
}

async fn connect(url: &Url) -> io::Result<()> {
    let port = url.port_or_known_default().unwrap_or(80);
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    // As the service does: clouds serve credentials there.
    if addresses.iter().any(|address| is_refused_address(address.ip())) {
        return Err(io::Error::other("it is a link-local address, which is never called"));
    }
    TcpStream::connect(addresses.as_slice()).await.map(drop)
}
