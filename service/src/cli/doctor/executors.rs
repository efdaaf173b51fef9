use std::{io, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::net::{TcpStream, lookup_host};
use url::Url;

use super::report::Check;
use crate::{domain::reach::Reach, store::Called};

/// How long finding a host, and connecting to it, may take in all.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Executors that are tried at once.
const AT_ONCE: usize = 16;

/// Whether each executor may be called, its host is known, and its port accepts a connection. No
/// task is sent.
pub(super) async fn checks(executors: &[Called], reach: &Reach) -> Vec<Check> {
    let checks = executors.iter().map(|executor| check(executor, reach));
    stream::iter(checks).buffered(AT_ONCE).collect().await
}

async fn check(executor: &Called, reach: &Reach) -> Check {
    let name = format!("executor {}", executor.name);
    let Some(url) = executor.url.as_deref().and_then(|url| Url::parse(url).ok()) else {
        return Check::fail(name, "its address cannot be read");
    };
    // The rest of the address may hold what is nobody's business.
    let place = url.origin().ascii_serialization();
    let reached = match tokio::time::timeout(TIMEOUT, connect(&url, reach)).await {
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

/// What the service would not call is not called here either.
async fn connect(url: &Url, reach: &Reach) -> io::Result<()> {
    let port = url.port_or_known_default().unwrap_or(80);
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    for address in &addresses {
        reach.check_address(host, address.ip()).map_err(io::Error::other)?;
    }
    TcpStream::connect(addresses.as_slice()).await.map(drop)
}
