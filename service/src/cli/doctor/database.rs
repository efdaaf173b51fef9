use super::report::Check;
use crate::store::{Inspection, Schema, UNSAID_POOLER};

/// Seconds by which clocks may differ before it is worth a word.
const CLOCK_WARN: f64 = 1.0;

/// What came of looking at the database.
pub(super) enum Inspected {
    Found(Inspection),
    /// An SQLite file that is not there.
    Missing,
    Unreachable(anyhow::Error),
}

pub(super) fn checks(inspected: &Inspected) -> Vec<Check> {
    let inspection = match inspected {
        Inspected::Found(inspection) => inspection,
        Inspected::Missing => {
            return vec![Check::warn("database", "the file is not there yet; serve makes it")];
        }
        Inspected::Unreachable(error) => return vec![Check::fail("database", error)],
    };
    let mut checks = vec![
        Check::ok("database", format!("{} answers", inspection.engine)),
        schema(&inspection.schema),
    ];
    if inspection.unsaid_pooler {
        checks.push(Check::fail("pooler", UNSAID_POOLER));
    }
    if inspection.schema == Schema::Current {
        checks.push(match &inspection.unwritable {
            None => Check::ok("writing", "the database takes writes"),
            Some(reason) => {
                Check::fail("writing", format!("the database takes no writes: {reason}"))
            }
        });
    }
    checks.extend(inspection.clock_ahead.map(clock));
    checks
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
