//! A client of Nightshift, which runs background tasks over HTTP.
//!
//! ```no_run
//! use nightshift_client::{Client, WaitError};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), WaitError> {
//!     let client = Client::new("http://127.0.0.1:8700")?;
//!     let sum: i64 = client.enqueue("sky.add").args((2, 40)).wait().await?;
//!     println!("{sum}");
//!     Ok(())
//! }
//! ```
//!
//! Somebody has to serve `sky.add`. That can be a worker in ten lines, with the feature `worker`:
//!
//! ```no_run
//! # #[cfg(feature = "worker")]
//! # mod program {
//! use nightshift_client::{
//!     Client, Error,
//!     worker::{Context, Failure, Worker},
//! };
//!
//! async fn add(_: Context, (a, b): (i64, i64)) -> Result<i64, Failure> {
//!     Ok(a + b)
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     let client = Client::new("http://127.0.0.1:8700")?;
//!     Worker::new(client, "sky").task("sky.add", add).register().run().await
//! }
//! # }
//! ```
//!
//! - [`Client::enqueue`] puts a task together; [`TaskHandle`] waits for it, asks for it, cancels it.
//! - [`Client`] has a method for each operation of the API, of the same name, and reads whole lists
//!   as streams. Values travel as the text that they are.
//! - [`Client::watch_task`] and [`Client::watch_events`] tell what happens, as it happens.
//! - [`Error`] tells what the service refused, with a code, from what did not reach it.
//! - [`Retry`] is how calls are made again that failed by what passes by itself.
//!
//! | Feature | Is for |
//! |---|---|
//! | `worker` | a program that takes tasks and runs functions for them: module `worker` |
//! | `webhook` | an executor that is called: module `webhook` checks who calls |
//!
//! None is on by default. All run on tokio, and speak TLS by rustls.

mod client;
mod enqueue;
mod error;
mod events;
mod executors;
mod handle;
mod leases;
mod pages;
mod plugins;
mod queues;
mod retry;
mod service;
mod tasks;
mod tokens;
#[cfg(feature = "webhook")]
pub mod webhook;
#[cfg(feature = "worker")]
pub mod worker;

pub use client::Client;
pub use enqueue::Enqueue;
pub use error::{Error, Result};
pub use events::{EventFilter, Events, Heard};
pub use handle::{TaskHandle, WaitError};
/// The types of requests and answers.
pub use nightshift_openapi as types;
pub use retry::Retry;
pub use tasks::{EnqueueOptions, Enqueued, TaskFilter};
