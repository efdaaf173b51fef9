//! A row of any table, in values that both engines have.

use diesel::{
    deserialize::{self, FromSql, QueryableByName},
    pg::{Pg, PgValue},
    row::{Field, NamedRow},
    sql_types::{BigInt, Binary, Bool, Double, Integer, SmallInt, Text},
    sqlite::{Sqlite, SqliteType, SqliteValue},
};

#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Null,
    /// Of any width; a boolean is 0 or 1.
    Integer(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    /// A letter for the kind, and the bytes of the value, so that different values never look the
    /// same in a checksum.
    pub(super) fn parts(&self) -> (u8, std::borrow::Cow<'_, [u8]>) {
        match self {
            Self::Null => (b'n', (&[][..]).into()),
            Self::Integer(number) => (b'i', number.to_be_bytes().to_vec().into()),
            Self::Real(number) => (b'r', number.to_bits().to_be_bytes().to_vec().into()),
            Self::Text(text) => (b't', text.as_bytes().into()),
            Self::Bytes(bytes) => (b'b', bytes.as_slice().into()),
        }
    }
}

/// The values of one row, in the order of the statement's columns.
#[derive(Debug)]
pub(super) struct Row(pub(super) Vec<Value>);

impl QueryableByName<Sqlite> for Row {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        let values = (0..row.field_count()).map(|index| {
            let field = diesel::row::Row::get(row, index).ok_or("a row is too short")?;
            field.value().map_or(Ok(Value::Null), of_sqlite)
        });
        Ok(Self(values.collect::<deserialize::Result<_>>()?))
    }
}

impl QueryableByName<Pg> for Row {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let values = (0..row.field_count()).map(|index| {
            let field = diesel::row::Row::get(row, index).ok_or("a row is too short")?;
            field.value().map_or(Ok(Value::Null), of_postgres)
        });
        Ok(Self(values.collect::<deserialize::Result<_>>()?))
    }
}

fn of_sqlite(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Value> {
    Ok(match value.value_type() {
        None => Value::Null,
        Some(SqliteType::SmallInt | SqliteType::Integer | SqliteType::Long) => {
            Value::Integer(FromSql::<BigInt, Sqlite>::from_sql(value)?)
        }
        Some(SqliteType::Float | SqliteType::Double) => {
            Value::Real(FromSql::<Double, Sqlite>::from_sql(value)?)
        }
        Some(SqliteType::Text) => Value::Text(FromSql::<Text, Sqlite>::from_sql(value)?),
        Some(SqliteType::Binary) => Value::Bytes(FromSql::<Binary, Sqlite>::from_sql(value)?),
    })
}

/// Reads a value by the number that PostgreSQL has given its type.
fn of_postgres(value: PgValue<'_>) -> deserialize::Result<Value> {
    Ok(match value.get_oid().get() {
        16 => Value::Integer(i64::from(<bool as FromSql<Bool, Pg>>::from_sql(value)?)),
        17 => Value::Bytes(FromSql::<Binary, Pg>::from_sql(value)?),
        20 => Value::Integer(FromSql::<BigInt, Pg>::from_sql(value)?),
        21 => Value::Integer(i64::from(<i16 as FromSql<SmallInt, Pg>>::from_sql(value)?)),
        23 => Value::Integer(i64::from(<i32 as FromSql<Integer, Pg>>::from_sql(value)?)),
        25 => Value::Text(FromSql::<Text, Pg>::from_sql(value)?),
        701 => Value::Real(FromSql::<Double, Pg>::from_sql(value)?),
        oid => return Err(format!("a column of PostgreSQL's type {oid} cannot be copied").into()),
    })
}
