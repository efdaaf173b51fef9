//! Writes the guest to standard output, for benchmarks: `cargo run -p nightshift-guests > FILE`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().lock().write_all(&nightshift_guests::plugin(nightshift_guests::GUEST))
}
