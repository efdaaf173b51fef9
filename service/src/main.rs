//! The binary. It calls [`nightshift::cli`] and uses jemalloc as its allocator.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    nightshift::cli::main()
}
