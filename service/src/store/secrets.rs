//! Encrypts the stored secrets of executors when the service starts.

use anyhow::Context;
use diesel::prelude::*;

use super::{
    error::Result,
    link::{Connection, Link, on_engine},
    schema::executors,
};
use crate::{
    domain::executor::StoredSecret,
    vault::{Locked, Vault},
};

/// The stored secrets of one executor.
#[derive(Queryable)]
struct Row {
    id: i64,
    name: String,
    secret: Option<String>,
    previous_secret: Option<String>,
}

/// Encrypts secrets that are stored in plain text, or with a key that is not the first any more.
/// Fails if the key of a secret is missing: nothing could be sent to that executor.
pub(super) fn renew(connection: &mut Connection, vault: &Vault) -> anyhow::Result<()> {
    let rows = connection.transaction(|mut link| rows(&mut link));
    let mut renewed = Vec::new();
    for row in rows.context("cannot read the executors' secrets")? {
        let new = |stored: &Option<String>| renew_one(vault, &row.name, stored.as_deref());
        let named = || format!("executor {}", row.name);
        let secret = new(&row.secret).with_context(named)?;
        let previous = new(&row.previous_secret).with_context(named)?;
        if secret.is_some() || previous.is_some() {
            renewed.push((row, secret, previous));
        }
    }
    if renewed.is_empty() {
        return Ok(());
    }
    let number = renewed.len();
    let stored = connection.transaction(|mut link| {
        renewed.iter().try_for_each(|(row, secret, previous)| {
            store(&mut link, row, secret.as_ref(), previous.as_ref())
        })
    });
    stored.context("cannot encrypt the executors' secrets")?;
    tracing::info!(executors = number, "secrets of executors were encrypted");
    Ok(())
}

fn renew_one(
    vault: &Vault,
    executor: &str,
    stored: Option<&str>,
) -> anyhow::Result<Option<StoredSecret>> {
    let Some(stored) = stored else {
        return Ok(None);
    };
    // The registry reports an executor whose row cannot be read, and leaves it out.
    let Ok(stored) = stored.parse::<StoredSecret>() else {
        return Ok(None);
    };
    let renewed = vault.renew(executor, &stored);
    renewed.map_err(|locked: Locked| anyhow::anyhow!("its secret {locked}"))
}

fn rows(link: &mut Link<'_>) -> Result<Vec<Row>> {
    let all = executors::table
        .filter(executors::secret.is_not_null())
        .order(executors::id)
        .select((executors::id, executors::name, executors::secret, executors::previous_secret));
    Ok(on_engine!(link, c => all.load(c))?)
}

/// Stores the new text of secrets, unless another process has changed them meanwhile.
fn store(
    link: &mut Link<'_>,
    row: &Row,
    secret: Option<&StoredSecret>,
    previous: Option<&StoredSecret>,
) -> Result<()> {
    if let Some(new) = secret {
        let same = executors::table.find(row.id).filter(executors::secret.eq(&row.secret));
        let change = diesel::update(same).set(executors::secret.eq(new.as_text()));
        on_engine!(&mut *link, c => change.execute(c))?;
    }
    if let Some(new) = previous {
        let same = executors::table
            .find(row.id)
            .filter(executors::previous_secret.eq(&row.previous_secret));
        let change = diesel::update(same).set(executors::previous_secret.eq(new.as_text()));
        on_engine!(&mut *link, c => change.execute(c))?;
    }
    Ok(())
}
