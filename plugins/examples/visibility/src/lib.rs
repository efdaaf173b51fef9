//! A Nightshift plugin: when can a target be observed from a site?
//!
//! `plugin` is all that knows of Nightshift and of WebAssembly. The rest is plain Rust, and is
//! tested by `cargo test` on any machine.

pub mod plan;
#[cfg(target_family = "wasm")]
mod plugin;
pub mod request;
pub mod sky;
