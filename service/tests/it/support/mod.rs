//! A whole service in this process, an executor to play with, and a database of each engine.

pub mod app;
pub mod commands;
pub mod database;
pub mod events;
pub mod executor;
pub mod metrics;
pub mod otlp;
pub mod process;
pub mod proxy;
pub mod rust_worker;
pub mod tls;
pub mod tokens;

use std::{future::Future, time::Duration};

/// How long a request that waits may take on a slow machine.
pub const SOON: Duration = Duration::from_secs(30);
/// How long a test waits for what must happen. Only a failure takes as long.
const PATIENCE: Duration = Duration::from_mins(2);

/// Waits for what must happen soon.
pub async fn soon<T>(what: &str, happening: impl Future<Output = T>) -> T {
    let happened = tokio::time::timeout(PATIENCE, happening).await;
    happened.unwrap_or_else(|_elapsed| panic!("{what} did not happen within {PATIENCE:?}"))
}

/// Looks again and again until `look` finds something.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let mut again = tokio::time::interval(Duration::from_millis(5));
    soon(what, async {
        loop {
            again.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    })
    .await
}

/// Stamps each test out for both engines: `name::sqlite` and `name::postgres`.
macro_rules! on_both_engines {
    ($(async fn $name:ident($app:ident: App) $body:block)*) => {$(
        async fn $name($app: $crate::support::app::Builder) $body

        mod $name {
            use $crate::support::app::Builder;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(Builder::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name(Builder::postgres()).await;
            }
        }
    )*};
}
pub(crate) use on_both_engines;
