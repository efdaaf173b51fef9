//! All tests of the client alone in one binary; those with a real service are the service's.
#![expect(unreachable_pub, reason = "nothing is outside of a test")]
#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod answers;
mod enqueue;
mod events;
mod retry;
mod secrets;
mod support;
#[cfg(feature = "webhook")]
mod webhook;
