//! Runs plugins: WebAssembly components for the world of `plugins/wit`, each attempt in a sandbox
//! of its own.
//!
//! This crate narrows wasmtime to what a task queue needs, and none of its types are seen outside.
//! What a plugin may do is what [`Grants`] and [`Limits`] say, and nothing else.
#![expect(missing_docs, reason = "the service is its only user")]

mod bindings;
mod engine;
mod fault;
mod files;
mod host;
mod limiter;
mod network;
mod output;
mod plugin;
mod quarters;
mod resolve;
mod run;
mod sandbox;
mod state;
mod threads;
mod waiters;
mod wasi_http;

pub use fault::{Fault, FaultKind};
pub use network::Reach;
pub use plugin::{Plugin, TaskInfo, Unfit};
pub use run::{About, Directory, Ending, Grants, Journal, Level, Limits, Raised, Run};
pub use sandbox::{Hanging, Sandbox, Settings, compile};
