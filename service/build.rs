//! Makes the demo's plugin of its text.

use std::{env, fs, path::Path};

const TEXT: &str = "../examples/plugin.wat";

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed={TEXT}");
    println!("cargo::rerun-if-changed=../plugins/wit");
    let component = nightshift_guests::plugin(&fs::read_to_string(TEXT)?);
    let folder = env::var_os("OUT_DIR").ok_or(std::io::ErrorKind::NotFound)?;
    fs::write(Path::new(&folder).join("plugin.wasm"), component)
}
