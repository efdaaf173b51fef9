use super::report::Check;
use crate::store::{Flaws, Inspection, Schema};

/// Seconds by which clocks may differ before it is worth a word.
const CLOCK_WARN: f64 = 1.0;

/// What came of looking at the database.
pub(super) enum Inspected {
    Found(Inspection),
    /// An SQLite file that is not there.
    Missing,
    /// The same, but a service that runs has had it.
    Gone,
    Unreachable(anyhow::Error),
}

pub(super) fn checks(inspected: &Inspected) -> Vec<Check> {
    let inspection = match inspected {
        Inspected::Found(inspection) => inspection,
        Inspected::Missing => {
            return vec![Check::warn("database", "the file is not there yet; serve makes it")];
        }
        Inspected::Gone => {
            let message = "the file is gone, but a service has it open: move it back with its \
                           -wal, or stop the service, put the file there that is to be used, and \
                           start it again";
            return vec![Check::fail("database", message)];
        }
        Inspected::Unreachable(error) => return vec![Check::fail("database", error)],
    };
    let mut checks = vec![
        Check::ok("database", format!("{} answers", inspection.engine)),
        schema(&inspection.schema),
    ];
    if inspection.schema == Schema::Current {
        checks.push(match &inspection.unwritable {
            None => Check::ok("writing", "the database takes writes"),
            Some(reason) => {
                Check::fail("writing", format!("the database takes no writes: {reason}"))
            }
        });
    }
    if inspection.schema == Schema::Current {
        checks.extend(rows(&inspection.flaws));
    }
    checks.extend(inspection.clock_ahead.map(clock));
    checks
}

/// Rows that no version of nightshift has written so.
fn rows(flaws: &Flaws) -> Vec<Check> {
    if flaws.found.is_empty() {
        let message = format!("executors, tokens and {} tasks can be read", flaws.tasks);
        return vec![Check::ok("rows", message)];
    }
    flaws.found.iter().map(|flaw| Check::fail("rows", flaw)).collect()
}

fn schema(schema: &Schema) -> Check {
    match schema {
        Schema::Current => Check::ok("schema", "it is the one that this version needs"),
        Schema::Pending(1) => {
            Check::warn("schema", "1 migration has to run; serve and migrate do that")
        }
        Schema::Pending(number) => Check::warn(
            "schema",
            format!("{number} migrations have to run; serve and migrate do that"),
        ),
        Schema::Newer(migration) => Check::fail(
            "schema",
            format!(
                "the database has migration {migration}, which this nightshift does not know: \
                 it is older than the database"
            ),
        ),
    }
}

/// Leases and due times go by the database's clock, so that a difference does no harm to them; logs
/// and executors show it.
fn clock(ahead: f64) -> Check {
    let difference = if ahead < 0.0 { "behind" } else { "ahead of" };
    let message = format!("the database's is {:.3} s {difference} this machine's", ahead.abs());
    if ahead.abs() < CLOCK_WARN {
        return Check::ok("clock", message);
    }
    Check::warn("clock", message)
}
