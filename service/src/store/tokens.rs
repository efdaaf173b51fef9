//! Stores access tokens, and keeps the last one with all rights from being revoked.

use diesel::prelude::*;

use super::{
    error::{Error, Result},
    link::{Link, on_engine},
    rows::{corrupt, from_json, micros, nearest_time, to_json},
    schema::{token_log, tokens},
    tx::Tx,
};
use crate::domain::{
    Timestamp,
    names::{QueueName, TokenName},
    token::{Hash, NewToken, Scope, Token},
};

/// Stands for a name that cannot be read.
const UNREADABLE: &str = "unreadable";

/// Whether a token in the configuration has all rights, so that none in the table needs to.
#[derive(Clone, Copy, Debug)]
pub struct AdminElsewhere(pub bool);

/// A token to create.
#[derive(Clone, Debug)]
pub struct CreateTokenRequest {
    pub token: NewToken,
    pub admin_elsewhere: AdminElsewhere,
}

/// The answer to a request to create a token.
#[derive(Clone, Debug)]
pub enum CreateTokenAnswer {
    Created(Token),
    /// Another token has the name, or had it.
    NameTaken,
    /// The table would have no lasting token with all rights, so that no more could be created.
    AdminNeeded,
}

/// A token to revoke.
#[derive(Clone, Debug)]
pub struct RevokeTokenRequest {
    pub name: TokenName,
    pub admin_elsewhere: AdminElsewhere,
}

/// The answer to a request to revoke a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokeTokenAnswer {
    Revoked,
    /// It was revoked before.
    Unchanged,
    NotFound,
    /// It is the last lasting token with all rights, and no more could be created without it.
    AdminNeeded,
}

/// All tokens, and the version of the table.
#[derive(Clone, Debug, Default)]
pub struct TokenTable {
    pub version: i64,
    pub tokens: Vec<Token>,
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = tokens)]
struct TokenRow {
    name: String,
    hash: Vec<u8>,
    scopes: String,
    queue_names: Option<String>,
    created_at: i64,
    expires_at: Option<i64>,
    last_used_at: Option<i64>,
    revoked_at: Option<i64>,
}

impl TokenRow {
    fn new(new: &NewToken, now: Timestamp) -> Result<Self> {
        let scopes: Vec<&str> = new.scopes.iter().map(|scope| scope.name()).collect();
        let names = |names: &Vec<QueueName>| {
            names.iter().map(|n| n.as_str().to_owned()).collect::<Vec<_>>()
        };
        let queue_names = new.queue_names.as_ref().map(names);
        Ok(Self {
            name: new.name.as_str().to_owned(),
            hash: new.hash.0.to_vec(),
            scopes: scopes.join(" "),
            queue_names: queue_names.map(|names| to_json(&names, "queue_names")).transpose()?,
            created_at: micros(now),
            expires_at: new.expires_at.map(micros),
            last_used_at: None,
            revoked_at: None,
        })
    }

    /// The token of a row. A row that cannot be read gives a revoked token: it lets no client in,
    /// and keeps its place in the table, because as soon as there is a token, every client has to
    /// have one.
    fn token_or_revoked(self) -> Result<Token> {
        let (name, created_at) = (self.name.clone(), nearest_time(self.created_at));
        self.token().or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a token cannot be read, and counts as revoked");
            Ok(Token {
                name: name
                    .parse()
                    .or_else(|_unreadable| UNREADABLE.parse())
                    .map_err(|_invalid| corrupt("a name"))?,
                // The hash of no token.
                hash: Hash([0; 32]),
                scopes: Vec::new(),
                queue_names: None,
                created_at,
                expires_at: None,
                last_used_at: None,
                revoked_at: Some(created_at),
            })
        })
    }

    fn token(self) -> Result<Token> {
        let scopes = self.scopes.split(' ').map(str::parse::<Scope>);
        let queue_names: Option<Vec<String>> = match &self.queue_names {
            Some(text) => Some(from_json(text, "queue_names")?),
            None => None,
        };
        let queue_names = queue_names
            .map(|names| {
                names.iter().map(|name| name.parse()).collect::<std::result::Result<_, _>>()
            })
            .transpose();
        let odd = |_| corrupt(format!("the token {}", self.name));
        Ok(Token {
            name: self.name.parse().map_err(odd)?,
            hash: Hash(self.hash.try_into().map_err(|_length| corrupt("a token's hash"))?),
            scopes: scopes.collect::<std::result::Result<_, _>>().map_err(odd)?,
            queue_names: queue_names.map_err(odd)?,
            created_at: nearest_time(self.created_at),
            expires_at: self.expires_at.map(nearest_time),
            last_used_at: self.last_used_at.map(nearest_time),
            revoked_at: self.revoked_at.map(nearest_time),
        })
    }
}

pub(super) fn create(
    tx: &mut Tx<'_>,
    requests: &[&CreateTokenRequest],
) -> Result<Vec<CreateTokenAnswer>> {
    requests.iter().map(|request| create_one(tx, request)).collect()
}

fn create_one(tx: &mut Tx<'_>, request: &CreateTokenRequest) -> Result<CreateTokenAnswer> {
    lock(tx)?;
    let all = load(&mut tx.link)?.tokens;
    let new = &request.token;
    if all.iter().any(|token| token.name == new.name) {
        return Ok(CreateTokenAnswer::NameTaken);
    }
    let makes_admin = new.scopes.contains(&Scope::Admin) && new.expires_at.is_none();
    if all.is_empty() && !makes_admin && !request.admin_elsewhere.0 {
        return Ok(CreateTokenAnswer::AdminNeeded);
    }
    let row = TokenRow::new(new, tx.now)?;
    on_engine!(&mut tx.link, c => diesel::insert_into(tokens::table).values(&row).execute(c))?;
    Ok(CreateTokenAnswer::Created(row.token()?))
}

pub(super) fn revoke(
    tx: &mut Tx<'_>,
    requests: &[&RevokeTokenRequest],
) -> Result<Vec<RevokeTokenAnswer>> {
    requests.iter().map(|request| revoke_one(tx, request)).collect()
}

fn revoke_one(tx: &mut Tx<'_>, request: &RevokeTokenRequest) -> Result<RevokeTokenAnswer> {
    lock(tx)?;
    let now = tx.now;
    let all = load(&mut tx.link)?.tokens;
    let Some(token) = all.iter().find(|token| token.name == request.name) else {
        return Ok(RevokeTokenAnswer::NotFound);
    };
    if token.revoked_at.is_some() {
        return Ok(RevokeTokenAnswer::Unchanged);
    }
    let lasts = |other: &&Token| {
        other.name != request.name
            && other.is_live(now)
            && other.is_admin()
            && other.expires_at.is_none()
    };
    if token.is_admin() && !request.admin_elsewhere.0 && all.iter().find(lasts).is_none() {
        return Ok(RevokeTokenAnswer::AdminNeeded);
    }
    let revoke = diesel::update(tokens::table.find(request.name.as_str()))
        .set(tokens::revoked_at.eq(micros(now)));
    on_engine!(&mut tx.link, c => revoke.execute(c))?;
    Ok(RevokeTokenAnswer::Revoked)
}

/// Makes a new version of the table, so that other processes read it again. The row is locked until
/// the commit. So two transactions that revoke tokens come one after the other, and neither can
/// revoke the token that the other one counts on.
fn lock(tx: &mut Tx<'_>) -> Result<()> {
    let next = diesel::update(token_log::table).set(token_log::version.eq(token_log::version + 1));
    on_engine!(&mut tx.link, c => next.execute(c))?;
    Ok(())
}

/// When tokens were last used.
pub(super) type Uses = Vec<(TokenName, Timestamp)>;

pub(super) fn note_uses(tx: &mut Tx<'_>, all: &[&Uses]) -> Result<Vec<()>> {
    for (name, at) in all.iter().copied().flatten() {
        let at = micros(*at);
        let later = diesel::update(tokens::table.find(name.as_str()))
            .filter(tokens::last_used_at.is_null().or(tokens::last_used_at.lt(at)))
            .set(tokens::last_used_at.eq(at));
        on_engine!(&mut tx.link, c => later.execute(c))?;
    }
    Ok(vec![(); all.len()])
}

pub(super) fn version(link: &mut Link<'_>) -> Result<i64> {
    Ok(on_engine!(link, c => token_log::table.select(token_log::version).first(c))?)
}

/// The tokens that cannot be read, each with the reason.
pub(super) fn unreadable(link: &mut Link<'_>) -> Result<Vec<(String, Error)>> {
    let rows: Vec<TokenRow> = on_engine!(link, c => tokens::table.order(tokens::name).load(c))?;
    let unreadable = |row: TokenRow| {
        let name = row.name.clone();
        row.token().err().map(|error| (name, error))
    };
    Ok(rows.into_iter().filter_map(unreadable).collect())
}

/// All tokens, by name.
pub(super) fn load(link: &mut Link<'_>) -> Result<TokenTable> {
    let version = version(link)?;
    let rows: Vec<TokenRow> = on_engine!(link, c => tokens::table.order(tokens::name).load(c))?;
    let tokens = rows.into_iter().map(TokenRow::token_or_revoked).collect::<Result<_>>()?;
    Ok(TokenTable { version, tokens })
}
