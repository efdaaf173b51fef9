use std::time::Duration;

use super::report::Check;
use crate::store::{Flaws, Holder, Inspection, Schema, UNSAID_POOLER};

/// Seconds by which clocks may differ before it is worth a word.
const CLOCK_WARN: f64 = 1.0;
/// How long a transaction may be open before it is worth a word.
const OPEN_WARN: Duration = Duration::from_mins(5);
/// How many transactions a replication slot may lie behind.
const SLOT_WARN: u64 = 1_000_000;

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
    if inspection.schema == Schema::Current {
        checks.extend(rows(&inspection.flaws));
    }
    checks.extend(inspection.clock_ahead.map(clock));
    // SQLite has no clock of its own, and leaves nothing dead.
    if inspection.clock_ahead.is_some() {
        checks.push(transactions(&inspection.holders));
        checks.extend(inspection.slots.iter().filter(|(_, behind)| *behind > SLOT_WARN).map(slot));
    }
    checks
}

/// As long as a transaction is open, what is dead by then cannot be cleaned away.
fn transactions(holders: &[Holder]) -> Check {
    let named = |holder: &Holder| format!("{} for {} s", holder.who, holder.open.as_secs());
    let name = "open transactions";
    let old: Vec<String> =
        holders.iter().filter(|holder| holder.open >= OPEN_WARN).map(named).collect();
    match (old.is_empty(), holders.first()) {
        (true, None) => Check::ok(name, "nobody has one open"),
        (true, Some(oldest)) => Check::ok(name, format!("the oldest is that of {}", named(oldest))),
        (false, _) => Check::warn(
            name,
            format!(
                "the database cannot clean up while they are open, and grows; end them \
                 (pg_terminate_backend): {}",
                old.join(", ")
            ),
        ),
    }
}

fn slot((name, behind): &(String, u64)) -> Check {
    Check::warn(
        format!("replication slot {name}"),
        format!(
            "it keeps what is dead since {behind} transactions ago; if nobody uses it any more, drop \
             it (pg_drop_replication_slot)"
        ),
    )
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Holder, OPEN_WARN, transactions};

    #[test]
    fn transactions_that_are_open_for_long_are_named() {
        let holder = |who: &str, open| Holder { who: who.to_owned(), open };
        let holders = [
            holder("session 7 of alice (psql)", OPEN_WARN),
            holder("session 8 of bob (app)", Duration::from_secs(1)),
        ];
        let said = serde_json::to_value(transactions(&holders)).unwrap();
        assert_eq!(said["status"], "warn");
        let message = said["message"].as_str().unwrap();
        assert!(message.contains("session 7 of alice (psql) for 300 s"), "{message}");
        assert!(!message.contains("bob"), "{message}");
    }
}
