//! Functions by task path.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use nightshift_openapi::Json;
use serde::{Serialize, de::DeserializeOwned};

use super::{Context, Failure, bind};

/// A function that runs: what it returns is JSON already.
pub(super) type Running = Pin<Box<dyn Future<Output = Result<Json, Failure>> + Send>>;
type Function = Arc<dyn Fn(Context) -> Running + Send + Sync>;

#[derive(Clone, Default)]
pub(super) struct Functions {
    exact: BTreeMap<String, Function>,
    /// Without their `*`.
    prefixes: BTreeMap<String, Function>,
}

impl Functions {
    pub(super) fn add<I, F, W, R, E>(&mut self, task_path: &str, function: F)
    where
        F: Fn(Context, I) -> W + Send + Sync + 'static,
        W: Future<Output = Result<R, E>> + Send,
        I: DeserializeOwned + Send,
        R: Serialize + Send,
        E: Into<Failure>,
    {
        let function = Arc::new(function);
        let boxed: Function = Arc::new(move |context| {
            let function = Arc::clone(&function);
            Box::pin(async move {
                let input = bind::arguments(context.task()).map_err(|error| {
                    Failure::new("nightshift.ArgumentsDoNotFit", error).retryable(false)
                })?;
                let returned = function(context, input).await.map_err(Into::into)?;
                Json::from_value(&returned).map_err(|error| {
                    Failure::new("nightshift.ResultNotJson", error).retryable(false)
                })
            })
        });
        match task_path.strip_suffix('*') {
            Some(prefix) => self.prefixes.insert(prefix.to_owned(), boxed),
            None => self.exact.insert(task_path.to_owned(), boxed),
        };
    }

    /// The function for a task path: an exact one before the longest prefix.
    pub(super) fn find(&self, task_path: &str) -> Option<&Function> {
        self.exact.get(task_path).or_else(|| {
            let fits = self.prefixes.iter().filter(|(prefix, _)| task_path.starts_with(*prefix));
            fits.max_by_key(|(prefix, _)| prefix.len()).map(|(_, function)| function)
        })
    }

    /// The task paths, as an executor registers them.
    pub(super) fn task_paths(&self) -> Vec<String> {
        let prefixes = self.prefixes.keys().map(|prefix| format!("{prefix}*"));
        self.exact.keys().cloned().chain(prefixes).collect()
    }
}
