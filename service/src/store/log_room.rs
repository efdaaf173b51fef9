//! Sends log lines to the writer in pieces, and so few at a time that other commands do not wait
//! for them.

use std::{mem, time::Duration};

use tokio::{sync::SemaphorePermit, time::Instant};

use super::{LeaseLost, RenewRequest, Store, command::Command, error::Result};
use crate::domain::lease::Renewal;

/// How many KiB of log lines may be on their way to the writer at once, and so in one transaction.
pub(super) const LOG_KIB_MAX: usize = 256;
/// How many bytes a piece has at most.
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// How long a heartbeat's lines may wait for a permit. Lines that have none by then are dropped.
const PATIENCE: Duration = Duration::from_secs(5);

/// A permit to store `bytes` bytes of a log, until it is dropped.
pub struct LogRoom<'a> {
    pub bytes: usize,
    /// `None` once the semaphore is closed, which does not happen.
    _permit: Option<SemaphorePermit<'a>>,
}

impl Store {
    /// Waits for the permit to store the next piece of a log of `bytes` bytes.
    pub async fn log_room(&self, bytes: usize) -> LogRoom<'_> {
        let bytes = bytes.min(PIECE_BYTES_MAX);
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(1);
        LogRoom { bytes, _permit: self.log_room.acquire_many(kib).await.ok() }
    }

    /// Sends a heartbeat that carries about as many bytes of a log as the caller has a permit for.
    pub async fn renew(
        &self,
        request: RenewRequest,
    ) -> Result<std::result::Result<Renewal, LeaseLost>> {
        self.insist(Command::Renew, request).await
    }

    /// Sends a heartbeat with all lines since the last one. The lease is renewed at once. Lines
    /// without a permit at this moment follow within five seconds, or are dropped.
    pub async fn report(
        &self,
        mut request: RenewRequest,
    ) -> Result<std::result::Result<Renewal, LeaseLost>> {
        if request.log.is_empty() {
            return self.renew(request).await;
        }
        let until = Instant::now() + PATIENCE;
        let token = request.token;
        let mut log = mem::take(&mut request.log);
        // This does not wait, since the lease must be renewed at once.
        let room = tokio::time::timeout(Duration::ZERO, self.log_room(log.bytes())).await;
        if let Ok(room) = &room {
            request.log = log.take(room.bytes);
        }
        let mut renewed = self.renew(request).await?;
        drop(room);
        while !log.is_empty() && renewed.is_ok() {
            let room = tokio::time::timeout_at(until, self.log_room(log.bytes())).await;
            let bytes = room.as_ref().map_or(0, |room| room.bytes);
            if room.is_err() {
                log.drop_all();
            }
            let piece = RenewRequest { token, progress: None, log: log.take(bytes) };
            renewed = self.renew(piece).await?;
        }
        Ok(renewed)
    }
}
