//! How large the database is, and which open transactions keep PostgreSQL from cleaning up dead
//! rows.

use std::time::Duration;

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, Double, Text},
};

use super::{error::Result, link::Link};

/// Figures for the operator of the database.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upkeep {
    /// The size of the database in bytes; on SQLite without the log beside the file.
    pub bytes: u64,
    /// Rows that are dead and not cleaned away yet; 0 on SQLite.
    pub dead_rows: u64,
    /// For how long the oldest transaction that may still see them has been open.
    pub oldest_transaction: Duration,
}

#[derive(QueryableByName)]
struct Sizes {
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = BigInt)]
    dead: i64,
}

/// SQLite's file without the log beside it.
const SQLITE_SIZES: &str = "SELECT pages.page_count * size.page_size AS bytes, 0 AS dead \
    FROM pragma_page_count() AS pages, pragma_page_size() AS size";
const POSTGRES_SIZES: &str = "SELECT pg_database_size(current_database()) AS bytes, \
    coalesce(sum(n_dead_tup), 0)::bigint AS dead FROM pg_stat_user_tables \
    WHERE schemaname = current_schema()";

pub(super) fn upkeep(link: &mut Link<'_>) -> Result<Upkeep> {
    let sizes: Sizes = match &mut *link {
        Link::Sqlite(c) => sql_query(SQLITE_SIZES).get_result(*c)?,
        Link::Postgres(c) => sql_query(POSTGRES_SIZES).get_result(*c)?,
    };
    let oldest = holders(link)?.first().map(|holder| holder.open);
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(Upkeep {
        bytes: number(sizes.bytes),
        dead_rows: number(sizes.dead),
        oldest_transaction: oldest.unwrap_or_default(),
    })
}

/// A transaction that may still see dead rows.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Its name for people, such as `session 4711 of alice (psql)`.
    pub who: String,
    /// For how long it has been open; zero if this role may not see that.
    pub open: Duration,
}

#[derive(QueryableByName)]
struct HolderRow {
    #[diesel(sql_type = Text)]
    who: String,
    #[diesel(sql_type = Double)]
    seconds: f64,
}

/// How many transactions are named.
const HOLDERS_MAX: i64 = 5;

/// The transactions that have been open longest, prepared ones among them.
pub(super) fn holders(link: &mut Link<'_>) -> Result<Vec<Holder>> {
    let Link::Postgres(c) = link else {
        return Ok(Vec::new());
    };
    let rows: Vec<HolderRow> = sql_query(
        "SELECT who, greatest(coalesce(seconds, 0), 0)::double precision AS seconds FROM (\
         SELECT 'session ' || pid || ' of ' || coalesce(usename, '?') || ' (' \
         || coalesce(nullif(application_name, ''), 'no application_name') || ')' AS who, \
         extract(epoch FROM clock_timestamp() - xact_start) AS seconds FROM pg_stat_activity \
         WHERE backend_xmin IS NOT NULL AND backend_type = 'client backend' \
         AND datname = current_database() AND pid <> pg_backend_pid() \
         UNION ALL \
         SELECT 'the prepared transaction ' || gid, \
         extract(epoch FROM clock_timestamp() - prepared) FROM pg_prepared_xacts \
         WHERE database = current_database()) AS open ORDER BY seconds DESC LIMIT $1",
    )
    .bind::<BigInt, _>(HOLDERS_MAX)
    .load(*c)?;
    let open = |row: HolderRow| Holder {
        who: row.who,
        open: Duration::try_from_secs_f64(row.seconds).unwrap_or_default(),
    };
    Ok(rows.into_iter().map(open).collect())
}

/// The replication slots that keep dead rows, each with its age in transactions.
pub(super) fn slots(link: &mut Link<'_>) -> Result<Vec<(String, u64)>> {
    let Link::Postgres(c) = link else {
        return Ok(Vec::new());
    };
    let rows: Vec<SlotRow> = sql_query(
        "SELECT slot_name::text AS name, age(xmin)::bigint AS transactions \
         FROM pg_replication_slots WHERE xmin IS NOT NULL ORDER BY age(xmin) DESC",
    )
    .load(*c)?;
    let slot = |row: SlotRow| (row.name, u64::try_from(row.transactions).unwrap_or(0));
    Ok(rows.into_iter().map(slot).collect())
}

#[derive(QueryableByName)]
struct SlotRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    transactions: i64,
}
