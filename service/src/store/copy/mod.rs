//! Copies everything from one database to another, of either engine.
//!
//! No other process writes to the two databases meanwhile. The source is read in one snapshot. The
//! target is written, read again and compared in one transaction, so that an interrupted copy
//! leaves it empty and can begin anew. Rows are streamed, so that memory is bounded however many
//! there are.

mod catalogue;
mod counters;
mod rows;
mod side;
mod value;

use anyhow::{Context, bail, ensure};
use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, SmallInt},
};

use self::{
    catalogue::Table,
    rows::{Chunk, Digest},
    side::Side,
};
use super::link::{Link, on_engine};
use crate::{config::Database, domain::state::Stage};

/// The contents that were copied, which are the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub tables: Vec<CopiedTable>,
    /// The number of tasks at each stage.
    pub stages: Vec<(Stage, u64)>,
}

/// One copied table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedTable {
    pub name: String,
    pub rows: u64,
    /// SHA-256 of all values of all rows.
    pub digest: String,
}

/// How far a copy has come.
#[derive(Clone, Copy, Debug)]
pub struct CopyProgress<'a> {
    /// The present step: `copied` or `compared`.
    pub doing: &'a str,
    pub table: &'a str,
    /// How many rows were written or compared so far. Each row counts twice, in `of` as well.
    pub done: u64,
    pub of: u64,
}

/// Copies all that `from` holds into `to`, which has to be empty, and compares the two. Calls
/// `watch` for each row.
pub fn copy(
    from: &Database,
    to: &Database,
    watch: &mut dyn FnMut(CopyProgress<'_>),
) -> anyhow::Result<Copied> {
    side::refuse_same_file(&from.url, &to.url)?;
    let mut source = Side::source(from).context("the source cannot be used")?;
    let mut target = Side::target(to, &source).context("the target cannot be used")?;
    let tables = catalogue::tables()?;
    let copied = source.snapshot(|mut from| {
        target.transaction(|mut to| {
            refuse_filled(&mut to, &tables)?;
            let total = total(&mut from, &tables)?;
            let watched = Watched { watch, done: 0, of: total * 2 };
            Copying { from: &mut from, to: &mut to, tables: &tables, watched }.run()
        })
    })?;
    target.connection.tidy_up();
    Ok(copied)
}

/// Refuses a target that holds more rows than the migrations have made.
fn refuse_filled(to: &mut Link<'_>, tables: &[Table]) -> anyhow::Result<()> {
    for table in tables {
        let rows = table.count(to)?;
        if rows > table.seeds {
            bail!(
                "the target is not empty: its table {} has {rows} rows; copy into a new database",
                table.name
            );
        }
    }
    Ok(())
}

fn total(from: &mut Link<'_>, tables: &[Table]) -> anyhow::Result<u64> {
    let mut total = 0;
    for table in tables {
        total += table.count(from)?;
    }
    Ok(total)
}

struct Watched<'a> {
    watch: &'a mut dyn FnMut(CopyProgress<'_>),
    done: u64,
    of: u64,
}

impl Watched<'_> {
    fn step(&mut self, doing: &str, table: &str) {
        self.done += 1;
        (self.watch)(CopyProgress { doing, table, done: self.done, of: self.of });
    }
}

struct Copying<'a, 'f, 't> {
    from: &'a mut Link<'f>,
    to: &'a mut Link<'t>,
    tables: &'a [Table],
    watched: Watched<'a>,
}

impl Copying<'_, '_, '_> {
    fn run(&mut self) -> anyhow::Result<Copied> {
        for table in self.tables {
            table.clear_seeds(self.to)?;
        }
        let mut copied = Vec::with_capacity(self.tables.len());
        for table in self.tables {
            let table = self
                .pour(table)
                .with_context(|| format!("the table {} cannot be copied", table.name))?;
            copied.push(table);
        }
        let counters = counters::read(self.from, self.tables)?;
        counters::write(self.to, self.tables, &counters)?;
        ensure!(
            counters == counters::read(self.to, self.tables)?,
            "the target does not count on where the source has stopped; nothing was copied"
        );
        self.compare(&copied)?;
        let stages = stages(self.from)?;
        ensure!(
            stages == self::stages(self.to)?,
            "source and target differ in their tasks' states; nothing was copied"
        );
        Ok(Copied { tables: copied, stages })
    }

    fn pour(&mut self, table: &Table) -> anyhow::Result<CopiedTable> {
        let mut digest = Digest::default();
        let mut chunk = Chunk::default();
        let Self { from, to, watched, .. } = self;
        rows::read(from, table, &mut |row| {
            digest.add(&row);
            chunk.push(row);
            if chunk.is_full() {
                chunk.write(to, table)?;
            }
            watched.step("copied", &table.name);
            Ok(())
        })?;
        chunk.write(to, table)?;
        Ok(digest.into_copied(&table.name))
    }

    /// Reads the target's rows again, and compares them with the rows of the source.
    fn compare(&mut self, copied: &[CopiedTable]) -> anyhow::Result<()> {
        for (table, copied) in self.tables.iter().zip(copied) {
            let mut digest = Digest::default();
            let Self { to, watched, .. } = self;
            rows::read(to, table, &mut |row| {
                digest.add(&row);
                watched.step("compared", &table.name);
                Ok(())
            })?;
            let written = digest.into_copied(&table.name);
            ensure!(
                written == *copied,
                "source and target differ in the table {}; nothing was copied",
                table.name
            );
        }
        Ok(())
    }
}

#[derive(QueryableByName)]
struct StageRow {
    #[diesel(sql_type = SmallInt)]
    stage: i16,
    #[diesel(sql_type = BigInt)]
    tasks: i64,
}

fn stages(link: &mut Link<'_>) -> anyhow::Result<Vec<(Stage, u64)>> {
    let count =
        sql_query("SELECT stage, count(*) AS tasks FROM tasks GROUP BY stage ORDER BY stage");
    let rows: Vec<StageRow> = on_engine!(link, c => count.load(c))?;
    rows.into_iter()
        .map(|row| {
            let stage = Stage::from_number(row.stage)
                .with_context(|| format!("the database holds a task of stage {}", row.stage))?;
            Ok((stage, u64::try_from(row.tasks)?))
        })
        .collect()
}
