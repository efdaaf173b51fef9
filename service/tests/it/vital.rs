//! A service does not go on without one of its threads or tasks.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use nightshift::{
    clock::{Clock, SystemClock},
    domain::Timestamp,
};

use crate::support::{
    app::TestApp,
    on_both_engines, soon,
    tls::{certify, with_tls},
    until,
};

/// A clock at which the writer, once it is broken, panics.
#[derive(Clone, Debug, Default)]
struct Breakable {
    clock: SystemClock,
    broken: Arc<AtomicBool>,
}

impl Breakable {
    fn look(&self) {
        let writes = thread::current().name() == Some("writer");
        assert!(!(writes && self.broken.load(Ordering::SeqCst)), "the clock is broken");
    }
}

#[async_trait]
impl Clock for Breakable {
    fn now(&self) -> Timestamp {
        self.look();
        self.clock.now()
    }

    fn agree(&self, shared: Timestamp) -> Timestamp {
        self.look();
        self.clock.agree(shared)
    }

    fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    async fn sleep_until(&self, deadline: Timestamp) {
        self.clock.sleep_until(deadline).await;
    }

    async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }
}

async fn ends(app: &TestApp, name: &'static str) {
    let vital = app.service().vital();
    until(name, || async { vital.ended().contains(&name).then_some(()) }).await;
}

on_both_engines! {
    async fn the_end_of_each_part_is_told(app: App) {
        let clock = Breakable::default();
        let folder = tempfile::tempdir().unwrap();
        certify(folder.path());
        let app = with_tls(app, folder.path()).with_clock(clock.clone()).start();
        let vital = app.service().vital().clone();
        for (name, task) in app.service().tasks() {
            assert!(!vital.ended().contains(&name), "{name}");
            task.abort();
            ends(&app, name).await;
        }
        assert_eq!(soon("the first end", vital.lost()).await, "dispatcher");
        clock.broken.store(true, Ordering::SeqCst);
        app.store().check().await.unwrap_err();
        // These end when the writer does.
        let threads: &[_] = if app.database_url().starts_with("postgres") {
            &["writer", "listener", "keeper"]
        } else {
            &["writer", "keeper"]
        };
        for name in threads {
            ends(&app, name).await;
        }
        // These hold as long as anybody may wait for the database.
        let held = ["guard", "asking"];
        let set = |names: Vec<&'static str>| {
            names.into_iter().filter(|name| !held.contains(name)).collect::<BTreeSet<_>>()
        };
        assert_eq!(set(vital.ended()), set(vital.names()), "all that are watched over");
    }

    async fn without_its_writer_a_service_is_neither_healthy_nor_stopped_in_good_order(app: App) {
        let clock = Breakable::default();
        let app = app.with_clock(clock.clone()).start();
        app.client.get_health().await.unwrap();
        clock.broken.store(true, Ordering::SeqCst);
        app.store().check().await.unwrap_err();
        // On PostgreSQL others end with it, and may be told of before.
        soon("the end of a part", app.service().vital().lost()).await;
        ends(&app, "writer").await;
        let answer = app.send(app.request("GET", "/healthz")).await;
        assert_eq!(answer.problem(), "503 unavailable -");
        assert!(answer.text.contains("writer"), "{answer:?}");
        let error = soon("the stop", app.stop_error()).await;
        assert!(error.contains("a thread of the store panicked"), "{error}");
    }

    async fn a_service_that_stops_in_good_order_misses_nothing(app: App) {
        let app = app.start();
        let vital = app.service().vital().clone();
        app.stop().await;
        assert_eq!(vital.ended(), Vec::<&str>::new());
    }
}
