//! A thin client of Nightshift: one method for each
//! operation of its API, named like it. Values travel as the text that they are.
//!
//! ```no_run
//! # async fn example() -> Result<(), nightshift_client::Error> {
//! use std::time::Duration;
//!
//! use nightshift_client::{Client, EnqueueOptions, types::TaskRequest};
//!
//! let client = Client::new("http://127.0.0.1:8700")?;
//! let request = TaskRequest::new("myapp.tasks.extract_sources");
//! let enqueued = client.create_task(&request, &EnqueueOptions::default()).await?;
//! let task = client.get_task(enqueued.task.id, Some(Duration::from_secs(30))).await?;
//! println!("{}", task.status);
//! # Ok(())
//! # }
//! ```

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

pub use client::Client;
pub use enqueue::Enqueue;
pub use error::{Error, Result};
pub use events::{EventFilter, Events, Heard};
pub use handle::{TaskHandle, WaitError};
/// The types of requests and answers.
pub use nightshift_openapi as types;
pub use retry::Retry;
pub use tasks::{EnqueueOptions, Enqueued, TaskFilter};
