//! The functions of the host that plugins may call: the imports of `plugins/wit`.

use tokio::time::Instant;

use crate::{
    bindings::nightshift::plugin::{host, http, task_types},
    run::Level,
    state::State,
};

impl task_types::Host for State {}

impl host::Host for State {
    fn log(&mut self, level: host::Level, message: String) {
        let level = match level {
            host::Level::Debug => Level::Debug,
            host::Level::Info => Level::Info,
            host::Level::Warning => Level::Warning,
            host::Level::Error => Level::Error,
        };
        self.log.line(level, &message);
    }

    fn progress(&mut self, fraction: Option<f64>, message: Option<String>) {
        self.log.progress(fraction, message);
    }

    // True a little before the deadline, too, so that the plugin has time to clean up.
    fn cancelled(&mut self) -> bool {
        self.clock.is_over_soon()
    }

    fn remaining_ms(&mut self) -> u64 {
        let left = self.clock.deadline.saturating_duration_since(Instant::now());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    }
}

impl http::Host for State {
    async fn fetch(&mut self, request: http::Request) -> Result<http::Response, http::Error> {
        let until = self.clock.deadline;
        self.door.fetch(request, until).await
    }
}
