//! Log lines go to the writer in pieces, so few at a time that others do not wait for them.

use std::{mem, time::Duration};

use tokio::{sync::SemaphorePermit, time::Instant};

use super::{LeaseLost, RenewRequest, Store, command::Command, error::Result};
use crate::domain::lease::Renewal;

/// KiB of log lines that are on their way to the writer at once, and so in one transaction.
pub(super) const LOG_KIB_MAX: usize = 256;
/// Bytes of one piece.
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// How long a heartbeat's lines may wait for room; those that have found none by then are dropped.
const PATIENCE: Duration = Duration::from_secs(5);

/// Room for so much of a log, for as long as this is kept.
pub struct LogRoom<'a> {
    pub bytes: usize,
    /// `None` once the semaphore is closed, which nobody does.
    _permit: Option<SemaphorePermit<'a>>,
}

impl Store {
    /// Waits until the next piece of a log may be stored, of which so much is there.
    pub async fn log_room(&self, bytes: usize) -> LogRoom<'_> {
        let bytes = bytes.min(PIECE_BYTES_MAX);
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(1);
        LogRoom { bytes, _permit: self.log_room.acquire_many(kib).await.ok() }
    }

    /// A heartbeat that carries about so much of a log as there was room made for.
    pub async fn renew(
        &self,
        request: RenewRequest,
    ) -> Result<std::result::Result<Renewal, LeaseLost>> {
        self.insist(Command::Renew, request).await
    }

    /// A heartbeat with all that was said since the last one. The lease is renewed at once; lines
    /// for which there is no room at this moment are stored after that, within five seconds.
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
