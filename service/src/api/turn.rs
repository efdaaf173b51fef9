//! Runs long computations on other threads than those that serve requests, which have to answer
//! other clients meanwhile, such as health checks.

use std::sync::Arc;

use nightshift_openapi::ErrorCode;
use tokio::sync::Semaphore;

use super::Error;

/// Bytes of JSON that are read or written in about a millisecond.
const HERE_BYTES_MAX: usize = 64 * 1024;

/// Runs `work`, which handles about `bytes` bytes. Little work is done at once; much is done on
/// another thread, after waiting for one of the permits in `turns`.
pub(super) async fn run<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if bytes <= HERE_BYTES_MAX {
        return Ok(work());
    }
    let turn = Arc::clone(turns).acquire_owned().await;
    // The permit moves into the closure. If the request is gone before the work is done, the work
    // goes on, and the permit must not be free before its end.
    let working = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    working.await.map_err(|error| {
        Error::new(ErrorCode::Internal, format!("a large body or answer came to nothing: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{Arc, mpsc},
        thread,
    };

    use futures_util::poll;
    use tokio::sync::Semaphore;

    use super::{HERE_BYTES_MAX, run};

    const MUCH: usize = HERE_BYTES_MAX + 1;

    #[tokio::test]
    async fn much_waits_for_its_turn_elsewhere_and_little_does_not() {
        let turns = Arc::new(Semaphore::new(1));
        let here = thread::current().id();
        let is_here = move || thread::current().id() == here;
        let other = turns.acquire().await.unwrap();
        let mut much = pin!(run(&turns, MUCH, is_here));
        assert!(poll!(&mut much).is_pending());
        assert!(run(&turns, HERE_BYTES_MAX, is_here).await.unwrap());
        drop(other);
        assert!(!much.await.unwrap());
    }

    #[tokio::test]
    async fn a_turn_lasts_as_long_as_the_work_whoever_waits_for_it() {
        let turns = Arc::new(Semaphore::new(1));
        let (go, goes) = mpsc::sync_channel::<()>(1);
        {
            let mut work = pin!(run(&turns, MUCH, move || goes.recv().is_ok()));
            assert!(poll!(&mut work).is_pending());
        }
        assert_eq!(turns.available_permits(), 0);
        go.send(()).unwrap();
        drop(turns.acquire().await.unwrap());
    }
}
