//! Whole lists, page after page.

use futures_util::{Stream, TryStreamExt, stream};
use nightshift_openapi::{AuditEntry, Executor, Plugin, Queue, TaskSummary, Token};

use crate::{Client, Error, Result, TaskFilter};

impl Client {
    /// All tasks that the filter lets through, newest first. The next page is read when the one
    /// before has been taken.
    pub fn tasks(&self, filter: TaskFilter) -> impl Stream<Item = Result<TaskSummary>> + '_ {
        pages(filter.cursor.clone(), move |cursor| {
            let filter = TaskFilter { cursor, ..filter.clone() };
            async move {
                let page = self.list_tasks(&filter).await?;
                Ok((page.items, page.next_cursor))
            }
        })
    }

    /// All executors, by name.
    pub fn executors(&self) -> impl Stream<Item = Result<Executor>> + '_ {
        pages(None, async |cursor: Option<String>| {
            let page = self.list_executors(cursor.as_deref(), None).await?;
            Ok((page.items, page.next_cursor))
        })
    }

    /// All plugins, by name.
    pub fn plugins(&self) -> impl Stream<Item = Result<Plugin>> + '_ {
        pages(None, async |cursor: Option<String>| {
            let page = self.list_plugins(cursor.as_deref(), None).await?;
            Ok((page.items, page.next_cursor))
        })
    }

    /// All queues that hold tasks or have settings, by name.
    pub fn queues(&self) -> impl Stream<Item = Result<Queue>> + '_ {
        pages(None, async |cursor: Option<String>| {
            let page = self.list_queues(cursor.as_deref(), None).await?;
            Ok((page.items, page.next_cursor))
        })
    }

    /// All tokens, by name, revoked ones too.
    pub fn tokens(&self) -> impl Stream<Item = Result<Token>> + '_ {
        pages(None, async |cursor: Option<String>| {
            let page = self.list_tokens(cursor.as_deref(), None).await?;
            Ok((page.items, page.next_cursor))
        })
    }

    /// The audit log, newest first.
    pub fn audit_entries(&self) -> impl Stream<Item = Result<AuditEntry>> + '_ {
        pages(None, async |cursor: Option<String>| {
            let page = self.list_audit_entries(cursor.as_deref(), None).await?;
            Ok((page.items, page.next_cursor))
        })
    }
}

/// The items of the page at a cursor, and of all after it.
fn pages<T, F>(
    first: Option<String>,
    page: impl Fn(Option<String>) -> F,
) -> impl Stream<Item = Result<T>>
where
    F: Future<Output = Result<(Vec<T>, Option<String>)>>,
{
    let walk = stream::try_unfold(Some(first), move |place| {
        let reading = place.map(&page);
        async move {
            let Some(reading) = reading else {
                return Ok::<_, Error>(None);
            };
            let (items, next) = reading.await?;
            let items = stream::iter(items.into_iter().map(Ok));
            Ok(Some((items, next.map(Some))))
        }
    });
    walk.try_flatten()
}
