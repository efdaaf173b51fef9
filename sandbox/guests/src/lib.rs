//! Plugins made of text, so that no other language's tools are needed: the demo's, and for the
//! tests some that misbehave.
#![expect(clippy::unwrap_used, reason = "what is wrong fails the build, or the test")]

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The guest with a task for each kind of trouble.
pub const GUEST: &str = include_str!("guest.wat");

/// The guest with other text in place of some of it.
///
/// # Panics
/// If the text is not there.
pub fn changed(from: &str, to: &str) -> Vec<u8> {
    assert!(GUEST.contains(from), "{from}");
    plugin(&GUEST.replacen(from, to, 1))
}

/// A component for the world `plugin`.
///
/// # Panics
/// If the text is no module, or does not fit the world.
pub fn plugin(wat: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_path(WIT).unwrap();
    encode(wat, &resolve, "nightshift:plugin/plugin@0.1.0")
}

/// The guest that looks for what WASI offers.
///
/// # Panics
/// If its text does not fit its world.
pub fn wasi() -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_path(WIT).unwrap();
    resolve.push_str("wasi.wit", include_str!("wasi.wit")).unwrap();
    encode(include_str!("wasi.wat"), &resolve, "test:guest/guest")
}

const WIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/wit");

fn encode(wat: &str, resolve: &Resolve, world: &str) -> Vec<u8> {
    let packages: Vec<_> = resolve.packages.iter().map(|(id, _)| id).collect();
    let world = resolve.select_world(&packages, Some(world)).unwrap();
    let mut module = wat::parse_str(wat).unwrap();
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}
