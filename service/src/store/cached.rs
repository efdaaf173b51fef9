//! Lets an engine keep the compiled form of a statement.
//!
//! Diesel does so by itself only where it can prove that the text is always the same: not for
//! updates, inserts with optional columns, and written SQL. To compile such a statement anew for
//! each row costs SQLite several times as much as to run it.

use diesel::{
    RunQueryDsl,
    backend::Backend,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    result::QueryResult,
};

/// A statement that is looked up by its text. To be run by `load` or `get_result`, so it has to
/// return rows: diesel's `execute` does not look here.
pub(super) struct Cached<Q>(Q);

/// For statements of which there are few different texts, whatever their values: their compiled
/// forms stay until the connection is closed.
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
