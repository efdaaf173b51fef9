//! Reads a file as a stream. Reading may block, so each portion is read on a thread of the run's
//! executor.

use std::{fs::File, io, mem, os::unix::fs::FileExt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use crate::{
    limiter::Charge,
    waiters::{Hung, Waiters},
};

/// The most bytes that are read at once.
const READ_BYTES_MAX: usize = 64 * 1024;

/// The stream of a file's bytes.
pub(super) struct Reading {
    file: Arc<File>,
    position: u64,
    state: State,
    waiters: Waiters,
    _held: Charge,
}

enum State {
    Idle,
    Reading(AbortOnDropHandle<Result<io::Result<Vec<u8>>, Hung>>),
    Read(Bytes),
    Failed(StreamError),
    Closed,
}

/// Reads up to `length` bytes at `offset`. Returns no bytes at the end of the file.
pub(super) fn read_at(file: &File, length: u64, offset: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(READ_BYTES_MAX)];
    loop {
        match file.read_at(&mut bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => {
                bytes.truncate(read?);
                return Ok(bytes);
            }
        }
    }
}

impl Reading {
    pub(super) fn new(file: Arc<File>, position: u64, waiters: Waiters, held: Charge) -> Self {
        Self { file, position, state: State::Idle, waiters, _held: held }
    }

    fn begin(&mut self, length: usize) {
        let (file, waiters, offset) = (Arc::clone(&self.file), self.waiters.clone(), self.position);
        // The read is a task of its own, so that it goes on if the plugin polls for bytes without
        // waiting for them.
        let reading = tokio::spawn(async move {
            waiters.call(move || read_at(&file, length as u64, offset)).await
        });
        self.state = State::Reading(AbortOnDropHandle::new(reading));
    }
}

#[async_trait]
impl Pollable for Reading {
    async fn ready(&mut self) {
        if matches!(self.state, State::Idle) {
            self.begin(READ_BYTES_MAX);
        }
        if let State::Reading(reading) = &mut self.state {
            self.state = match reading.await {
                Ok(Ok(Ok(bytes))) if bytes.is_empty() => State::Closed,
                Ok(Ok(Ok(bytes))) => State::Read(bytes.into()),
                Ok(Ok(Err(error))) => State::Failed(StreamError::LastOperationFailed(error.into())),
                Ok(Err(hung)) => State::Failed(StreamError::Trap(hung.into())),
                Err(panicked) => State::Failed(StreamError::Trap(panicked.into())),
            };
        }
    }
}

#[async_trait]
impl InputStream for Reading {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match &mut self.state {
            State::Idle if size > 0 => {
                self.begin(size);
                Ok(Bytes::new())
            }
            State::Idle | State::Reading(_) => Ok(Bytes::new()),
            State::Read(bytes) => {
                let part = bytes.split_to(bytes.len().min(size));
                self.position += part.len() as u64;
                if bytes.is_empty() {
                    self.state = State::Idle;
                }
                Ok(part)
            }
            State::Failed(_) => match mem::replace(&mut self.state, State::Closed) {
                State::Failed(error) => Err(error),
                State::Idle | State::Reading(_) | State::Read(_) | State::Closed => {
                    Err(StreamError::Closed)
                }
            },
            State::Closed => Err(StreamError::Closed),
        }
    }
}
