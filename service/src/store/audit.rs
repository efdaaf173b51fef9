//! The audit log. The transaction that does something also writes the entry about it, so that
//! neither is there without the other.

use std::mem;

use diesel::prelude::*;

use super::{
    dialect::bulk,
    error::Result,
    link::{Link, on_engine},
    rows::{micros, nearest_time},
    schema::audit_log,
    tx::Tx,
};
use crate::domain::token::{Actor, AuditEntry};

/// Entries deleted in one step.
const TRIM_ROWS: i64 = 500;

/// A user's request, as the audit log names it. It becomes an entry if it is carried out.
#[derive(Clone, Debug)]
pub struct Note {
    pub actor: Actor,
    pub action: &'static str,
    pub object: String,
}

/// An entry to insert.
#[derive(Insertable)]
#[diesel(table_name = audit_log)]
pub(super) struct AuditRow {
    pub(super) at: i64,
    pub(super) actor: String,
    pub(super) address: Option<String>,
    pub(super) action: &'static str,
    pub(super) object: String,
}

#[derive(Queryable)]
struct EntryRow {
    seq: i64,
    at: i64,
    actor: String,
    address: Option<String>,
    action: String,
    object: String,
}

/// One page of the log, newest first.
#[derive(Clone, Debug)]
pub struct AuditPage {
    pub entries: Vec<AuditEntry>,
    /// The `before` of the next page; `None` on the last one.
    pub next: Option<i64>,
}

/// Writes the entries of this transaction.
pub(super) fn store(tx: &mut Tx<'_>) -> Result<()> {
    let row = |note: Note| AuditRow {
        at: micros(tx.now),
        actor: note.actor.name,
        address: note.actor.address.map(|address| address.to_string()),
        action: note.action,
        object: note.object,
    };
    let rows: Vec<AuditRow> = mem::take(&mut tx.notes).into_iter().map(row).collect();
    bulk::insert_audit_entries(&mut tx.link, &rows)
}

/// The entries whose `seq` is below `before`, newest first.
pub(super) fn page(link: &mut Link<'_>, before: Option<i64>, limit: u32) -> Result<AuditPage> {
    let query = audit_log::table
        .filter(audit_log::seq.lt(before.unwrap_or(i64::MAX)))
        .order(audit_log::seq.desc())
        .limit(i64::from(limit) + 1);
    let mut rows: Vec<EntryRow> = on_engine!(link, c => query.load(c))?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > wanted;
    rows.truncate(wanted);
    let next = rows.last().filter(|_| more).map(|row| row.seq);
    let entry = |row: EntryRow| {
        let EntryRow { at, actor, address, action, object, .. } = row;
        AuditEntry { at: nearest_time(at), actor, address, action, object }
    };
    Ok(AuditPage { entries: rows.into_iter().map(entry).collect(), next })
}

/// Whether there are entries older than a time.
pub(super) fn has_older(link: &mut Link<'_>, before: i64) -> Result<bool> {
    let oldest = audit_log::table.select(diesel::dsl::min(audit_log::at));
    let oldest: Option<i64> = on_engine!(link, c => oldest.first(c))?;
    Ok(oldest.is_some_and(|oldest| oldest < before))
}

/// Deletes some of the entries older than each given time, and returns whether there may be more.
pub(super) fn trim(tx: &mut Tx<'_>, befores: &[&i64]) -> Result<Vec<bool>> {
    befores.iter().map(|before| trim_step(&mut tx.link, **before)).collect()
}

fn trim_step(link: &mut Link<'_>, before: i64) -> Result<bool> {
    let oldest = audit_log::table
        .filter(audit_log::at.lt(before))
        .order(audit_log::at)
        .limit(TRIM_ROWS)
        .select(audit_log::seq);
    let oldest: Vec<i64> = on_engine!(&mut *link, c => oldest.load(c))?;
    let more = i64::try_from(oldest.len()).unwrap_or(TRIM_ROWS) == TRIM_ROWS;
    let gone = diesel::delete(audit_log::table.filter(audit_log::seq.eq_any(&oldest)));
    if !oldest.is_empty() {
        on_engine!(link, c => gone.execute(c))?;
    }
    Ok(more)
}
