//! The counters that number new rows. The target goes on counting where the source has stopped, so
//! that no id is given out twice, even if its row is gone.

use diesel::{prelude::*, sql_query, sql_types::BigInt};

use super::catalogue::Table;
use crate::store::link::{Link, on_engine};

#[derive(QueryableByName)]
struct Last {
    #[diesel(sql_type = BigInt)]
    last: i64,
}

/// Reads the last numbers that were given out: that of `task_seqs`, then those of numbered tables.
pub(super) fn read(link: &mut Link<'_>, tables: &[Table]) -> anyhow::Result<Vec<i64>> {
    let mut counters = Vec::new();
    for counter in all(link, tables)? {
        let query = match link {
            Link::Sqlite(_) => format!("SELECT COALESCE(({counter}), 0) AS last"),
            Link::Postgres(_) => {
                format!("SELECT COALESCE(pg_sequence_last_value({counter}), 0) AS last")
            }
        };
        let last: Last = on_engine!(&mut *link, c => sql_query(query).get_result(c))?;
        counters.push(last.last);
    }
    Ok(counters)
}

/// Sets the counters, so that the next numbers come after these.
pub(super) fn write(link: &mut Link<'_>, tables: &[Table], counters: &[i64]) -> anyhow::Result<()> {
    match link {
        Link::Sqlite(c) => {
            let (places, numbered) = counters.split_first().unwrap_or((&0, &[]));
            sql_query("UPDATE task_seqs SET last = ?").bind::<BigInt, _>(places).execute(*c)?;
            for (table, last) in tables.iter().filter(|table| table.numbered).zip(numbered) {
                let name = &table.name;
                sql_query(format!("DELETE FROM sqlite_sequence WHERE name = '{name}'"))
                    .execute(*c)?;
                sql_query(format!("INSERT INTO sqlite_sequence (name, seq) VALUES ('{name}', ?)"))
                    .bind::<BigInt, _>(last)
                    .execute(*c)?;
            }
        }
        Link::Postgres(_) => {
            for (counter, last) in all(link, tables)?.into_iter().zip(counters) {
                let set = sql_query(format!("SELECT setval({counter}, GREATEST($1, 1), $1 > 0)"))
                    .bind::<BigInt, _>(last);
                on_engine!(&mut *link, c => set.execute(c))?;
            }
        }
    }
    Ok(())
}

/// Where each counter is: a query on SQLite, a sequence on PostgreSQL.
fn all(link: &Link<'_>, tables: &[Table]) -> anyhow::Result<Vec<String>> {
    let places = match link {
        Link::Sqlite(_) => "SELECT last FROM task_seqs",
        Link::Postgres(_) => "'task_seqs'::regclass",
    };
    let mut counters = vec![places.to_owned()];
    for table in tables.iter().filter(|table| table.numbered) {
        let (name, key) = (&table.name, table.key()?);
        counters.push(match link {
            Link::Sqlite(_) => format!("SELECT seq FROM sqlite_sequence WHERE name = '{name}'"),
            Link::Postgres(_) => format!("pg_get_serial_sequence('{name}', '{key}')::regclass"),
        });
    }
    Ok(counters)
}
