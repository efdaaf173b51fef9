//! Reads tables row by row, and writes rows in chunks.

use std::mem;

use diesel::{
    connection::DefaultLoadingMode,
    pg::{PgConnection, PgRowByRowLoadingMode},
    prelude::*,
    sql_query,
    sql_types::{Array, BigInt, Binary, Bool, Double, Nullable, Text},
    sqlite::SqliteConnection,
};
use sha2::{Digest as _, Sha256};

use super::{
    CopiedTable,
    catalogue::{Kind, Table},
    value::{Row, Value},
};
use crate::{
    domain::plugin,
    store::{cached::FewTexts, link::Link},
};

/// How many rows and bytes are held in memory until they are written. A single row may be larger.
const CHUNK_ROWS: usize = 1_000;
const CHUNK_BYTES: usize = 8 * 1024 * 1024;

/// Calls `each` with every row of a table. Only one row at a time is in memory.
pub(super) fn read(
    link: &mut Link<'_>,
    table: &Table,
    each: &mut dyn FnMut(Row) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let query = sql_query(table.select(link));
    match link {
        Link::Sqlite(c) => {
            for row in query.load_iter::<Row, DefaultLoadingMode>(*c)? {
                each(row?)?;
            }
        }
        Link::Postgres(c) => {
            for row in query.load_iter::<Row, PgRowByRowLoadingMode>(*c)? {
                each(row?)?;
            }
        }
    }
    Ok(())
}

/// Rows that are written together.
#[derive(Default)]
pub(super) struct Chunk {
    rows: Vec<Row>,
    bytes: usize,
}

impl Chunk {
    pub(super) fn push(&mut self, row: Row) {
        self.bytes += row.0.iter().map(|value| value.parts().1.len()).sum::<usize>();
        self.rows.push(row);
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES
    }

    /// Writes the rows and empties the chunk.
    pub(super) fn write(&mut self, link: &mut Link<'_>, table: &Table) -> anyhow::Result<()> {
        let Self { rows, .. } = mem::take(self);
        if rows.is_empty() {
            return Ok(());
        }
        match link {
            Link::Sqlite(c) => write_sqlite(c, table, rows),
            Link::Postgres(c) => write_postgres(c, table, rows),
        }
    }
}

/// A row that was written. It is returned only because `cached` needs a statement that returns
/// rows.
#[derive(QueryableByName)]
struct Written {
    #[diesel(sql_type = BigInt)]
    #[expect(dead_code, reason = "only that there is one matters")]
    written: i64,
}

fn write_sqlite(c: &mut SqliteConnection, table: &Table, rows: Vec<Row>) -> anyhow::Result<()> {
    let places = vec!["?"; table.columns.len()].join(", ");
    let statement = format!(
        "INSERT INTO {} ({}) VALUES ({places}) RETURNING 1 AS written",
        table.name,
        table.names()
    );
    for row in rows {
        let mut insert = sql_query(&statement).into_boxed();
        for value in row.0 {
            insert = match value {
                Value::Null => insert.bind::<Nullable<BigInt>, _>(None::<i64>),
                Value::Integer(number) => insert.bind::<BigInt, _>(number),
                Value::Real(number) => insert.bind::<Double, _>(number),
                Value::Text(text) => insert.bind::<Text, _>(text),
                Value::Bytes(bytes) => insert.bind::<Binary, _>(bytes),
            };
        }
        insert.cached().get_result::<Written>(c)?;
    }
    Ok(())
}

fn write_postgres(c: &mut PgConnection, table: &Table, rows: Vec<Row>) -> anyhow::Result<()> {
    let places: Vec<String> = (1..=table.columns.len()).map(|n| format!("${n}")).collect();
    // Rows keep the source's ids, also where the database would give ids itself.
    let mut insert = sql_query(format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT * FROM UNNEST({})",
        table.name,
        table.names(),
        places.join(", ")
    ))
    .into_boxed();
    for (column, values) in table.columns.iter().zip(columns(table, rows)) {
        insert = match column.kind {
            Kind::Integer => insert.bind::<Array<Nullable<BigInt>>, _>(integers(values)),
            Kind::Boolean => insert.bind::<Array<Nullable<Bool>>, _>(booleans(values)),
            Kind::Real => insert.bind::<Array<Nullable<Double>>, _>(reals(values)),
            Kind::Text => insert.bind::<Array<Nullable<Text>>, _>(texts(values)),
            Kind::Bytes => insert.bind::<Array<Nullable<Binary>>, _>(bytes(values)),
        };
    }
    insert.execute(c)?;
    Ok(())
}

/// Turns rows into columns.
fn columns(table: &Table, rows: Vec<Row>) -> Vec<Vec<Value>> {
    let mut columns: Vec<Vec<Value>> =
        table.columns.iter().map(|_| Vec::with_capacity(rows.len())).collect();
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row.0) {
            column.push(value);
        }
    }
    columns
}

/// The values of a column of one kind. A value of another kind becomes NULL. Only a change by hand
/// can have put it into an SQLite file, and the comparison finds it, unless the column refuses
/// NULL.
macro_rules! column_of {
    ($($name:ident: $type:ty = $pattern:pat => $value:expr;)*) => {$(
        fn $name(values: Vec<Value>) -> Vec<Option<$type>> {
            let value = |value| if let $pattern = value { Some($value) } else { None };
            values.into_iter().map(value).collect()
        }
    )*};
}

column_of! {
    integers: i64 = Value::Integer(number) => number;
    booleans: bool = Value::Integer(number) => number != 0;
    reals: f64 = Value::Real(number) => number;
    texts: String = Value::Text(text) => text;
    bytes: Vec<u8> = Value::Bytes(bytes) => bytes;
}

/// Counts rows, and computes a checksum of their values.
#[derive(Default)]
pub(super) struct Digest {
    rows: u64,
    hash: Sha256,
}

impl Digest {
    pub(super) fn add(&mut self, row: &Row) {
        self.rows += 1;
        for value in &row.0 {
            let (letter, bytes) = value.parts();
            self.hash.update([letter]);
            self.hash.update((bytes.len() as u64).to_be_bytes());
            self.hash.update(&bytes);
        }
    }

    pub(super) fn into_copied(self, table: &str) -> CopiedTable {
        let digest = plugin::Digest(self.hash.finalize().into());
        CopiedTable { name: table.to_owned(), rows: self.rows, digest: digest.to_string() }
    }
}
