//! Nightshift: background tasks for any web stack over plain HTTP.
//!
//! `ARCHITECTURE.md` describes the parts and which may use which. [`app`] puts them together,
//! and [`cli`] is the command line.
#![expect(missing_docs, reason = "a program, not a library: its tests are the only users")]

pub mod access;
pub mod api;
pub mod app;
pub mod capacity;
pub mod cli;
pub mod clock;
pub mod config;
pub mod disk;
pub mod dispatch;
pub mod domain;
pub mod entropy;
pub mod executor;
pub mod memory;
pub mod metrics;
pub mod network;
pub mod plugin;
pub mod shutdown;
pub mod socket;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod traces;
pub mod vault;
pub mod vital;
