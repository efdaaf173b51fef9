//! What `GET /metrics` shows.

use std::collections::{BTreeMap, BTreeSet};

use super::app::TestApp;

/// The samples by name and labels.
pub struct Samples(pub BTreeMap<String, f64>);

impl Samples {
    pub async fn of(app: &TestApp) -> Self {
        let text = app.client.get_metrics().await.unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.map(|line| line.rsplit_once(' ').unwrap()).map(sample).collect())
    }

    pub fn get(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("{name} is not among {:#?}", self.0))
    }

    /// Names without labels.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.keys().map(|key| key.split('{').next().unwrap()).collect()
    }
}

fn sample((name, value): (&str, &str)) -> (String, f64) {
    (name.to_owned(), value.parse().unwrap())
}
