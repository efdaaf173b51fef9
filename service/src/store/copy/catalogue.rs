//! The tables to copy. They are read from an empty SQLite database on which the migrations have
//! just run, so that no table can be forgotten. Both engines have the same tables.

use anyhow::{Context, bail};
use diesel::{
    Connection as _,
    prelude::*,
    sql_query,
    sql_types::{BigInt, Bool, Text},
    sqlite::SqliteConnection,
};

use crate::store::{
    link::{Connection, Link, on_engine},
    migrate,
};

/// Tables that are not copied as they are: the record that each database has of its own migrations,
/// and the counter of `tasks.seq`, which is a sequence on PostgreSQL.
const OTHERS: &str = "'__diesel_schema_migrations', 'task_seqs'";

/// The kind of a column's values. The engines declare the same kinds by different names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Boolean,
    Real,
    Text,
    Bytes,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// The columns of its key (as indexes into `columns`), by which rows are ordered.
    keys: Vec<usize>,
    /// The tables that its foreign keys point at.
    parents: Vec<String>,
    /// The database gives its rows their ids.
    pub(super) numbered: bool,
    /// How many rows the migrations have put into it.
    pub(super) seeds: u64,
}

#[derive(QueryableByName)]
struct TableRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    numbered: bool,
}

#[derive(QueryableByName)]
struct ColumnRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    declared: String,
    #[diesel(sql_type = BigInt)]
    key: i64,
}

#[derive(QueryableByName)]
struct ParentRow {
    #[diesel(sql_type = Text)]
    parent: String,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

/// All tables, each after the tables that it points at.
pub(super) fn tables() -> anyhow::Result<Vec<Table>> {
    let mut fresh = Connection::Sqlite(SqliteConnection::establish(":memory:")?);
    migrate::run(&mut fresh)?;
    let mut link = fresh.link();
    let Link::Sqlite(c) = &mut link else { bail!("SQLite alone is in memory") };
    let names: Vec<TableRow> = sql_query(format!(
        "SELECT name, sql LIKE '%AUTOINCREMENT%' AS numbered FROM sqlite_schema \
         WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT IN ({OTHERS}) ORDER BY name"
    ))
    .load(*c)?;
    let mut waiting = Vec::with_capacity(names.len());
    for row in names {
        waiting.push(table(c, row)?);
    }
    for table in &mut waiting {
        table.seeds = table.count(&mut link)?;
    }
    in_order(waiting)
}

fn table(c: &mut SqliteConnection, row: TableRow) -> anyhow::Result<Table> {
    let columns: Vec<ColumnRow> = sql_query(
        "SELECT name, type AS declared, pk AS key FROM pragma_table_info($1) ORDER BY cid",
    )
    .bind::<Text, _>(&row.name)
    .load(c)?;
    let parents: Vec<ParentRow> =
        sql_query("SELECT DISTINCT \"table\" AS parent FROM pragma_foreign_key_list($1)")
            .bind::<Text, _>(&row.name)
            .load(c)?;
    let mut keys: Vec<(i64, usize)> = columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.key > 0)
        .map(|(index, column)| (column.key, index))
        .collect();
    keys.sort_unstable();
    let columns = columns
        .into_iter()
        .map(|column| Ok(Column { kind: kind(&column.declared)?, name: column.name }))
        .collect::<anyhow::Result<_>>()
        .with_context(|| format!("the table {} cannot be read", row.name))?;
    Ok(Table {
        name: row.name,
        columns,
        keys: keys.into_iter().map(|(_, index)| index).collect(),
        parents: parents.into_iter().map(|row| row.parent).collect(),
        numbered: row.numbered,
        seeds: 0,
    })
}

fn kind(declared: &str) -> anyhow::Result<Kind> {
    Ok(match declared {
        "INTEGER" | "BIGINT" | "SMALLINT" => Kind::Integer,
        "BOOLEAN" => Kind::Boolean,
        "DOUBLE" => Kind::Real,
        "TEXT" => Kind::Text,
        "BLOB" => Kind::Bytes,
        _ => bail!("a column of type {declared:?} cannot be copied"),
    })
}

fn in_order(mut waiting: Vec<Table>) -> anyhow::Result<Vec<Table>> {
    let mut ordered: Vec<Table> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let has_come = |parent: &String| ordered.iter().any(|table| table.name == *parent);
        let next = waiting
            .iter()
            .position(|table| table.parents.iter().all(has_come))
            .context("the tables point at each other in a circle")?;
        ordered.push(waiting.remove(next));
    }
    Ok(ordered)
}

impl Table {
    pub(super) fn count(&self, link: &mut Link<'_>) -> anyhow::Result<u64> {
        let count = sql_query(format!("SELECT count(*) AS rows FROM {}", self.name));
        let count: Count = on_engine!(link, c => count.get_result(c))?;
        Ok(u64::try_from(count.rows)?)
    }

    /// Deletes the rows that the migrations have made, since those of the source take their place.
    pub(super) fn clear_seeds(&self, link: &mut Link<'_>) -> anyhow::Result<()> {
        if self.seeds > 0 {
            let clear = sql_query(format!("DELETE FROM {}", self.name));
            on_engine!(link, c => clear.execute(c))?;
        }
        Ok(())
    }

    /// The names of its columns, for a statement.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> =
            self.columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
        names.join(", ")
    }

    /// A statement that reads all rows in the order of their keys. The order is the same on both
    /// engines: text is compared by its bytes.
    pub(super) fn select(&self, link: &Link<'_>) -> String {
        let keys: Vec<String> = self
            .keys
            .iter()
            .filter_map(|index| self.columns.get(*index))
            .map(|key| match (link, key.kind) {
                (Link::Postgres(_), Kind::Text) => format!("\"{}\" COLLATE \"C\"", key.name),
                _ => format!("\"{}\"", key.name),
            })
            .collect();
        format!("SELECT {} FROM {} ORDER BY {}", self.names(), self.name, keys.join(", "))
    }

    /// The name of its key's first column.
    pub(super) fn key(&self) -> anyhow::Result<&str> {
        let key = self.keys.first().and_then(|index| self.columns.get(*index));
        Ok(&key.with_context(|| format!("the table {} has no key", self.name))?.name)
    }
}
