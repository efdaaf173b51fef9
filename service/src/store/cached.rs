//! Lets an engine keep the compiled form of a statement.
//!
//! Diesel does that by itself only where it can prove that the text of the statement never changes:
//! not for updates, for inserts with optional columns, and for SQL text. On SQLite it takes several
//! times as long to compile such a statement as to run it, and it would be compiled for each row.

use diesel::{
    RunQueryDsl,
    backend::Backend,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    result::QueryResult,
};

/// A statement whose compiled form is found again by its text. It is run by `load` or `get_result`
/// and so has to return rows: diesel's `execute` does not look for compiled forms.
pub(super) struct Cached<Q>(Q);

/// For statements that have few different texts, whatever their values are. Each compiled form
/// stays until the connection is closed.
pub(super) trait FewTexts: Sized {
    fn cached(self) -> Cached<Self> {
        Cached(self)
    }
}

impl<Q> FewTexts for Q {}

impl<Q> QueryId for Cached<Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: QueryFragment<DB>, DB: Backend> QueryFragment<DB> for Cached<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _: &DB) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<Q: Query> Query for Cached<Q> {
    type SqlType = Q::SqlType;
}

impl<Q, C> RunQueryDsl<C> for Cached<Q> {}
