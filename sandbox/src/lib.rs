//! Runs plugins: WebAssembly components for the world of `plugins/wit`, each attempt in a sandbox
//! of its own.
//!
//! This crate exposes of wasmtime only what a task queue needs, and none of its types. A plugin can
//! use no more of the machine than its [`Grants`] and [`Limits`] allow.
//!
//! `sandbox` begins runs; `state` holds all that belongs to one run; `host`, `network`,
//! `wasi_http`, `files` and `output` implement what a plugin may call; `limiter` and `engine` bound
//! its memory and time; `quarters` and `waiters` hold the connections and threads that all runs of
//! one executor share.
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
