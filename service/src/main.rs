//! The binary: see [`nightshift::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    nightshift::cli::main()
}
