//! Which executor serves a task: patterns of task paths, and the table that finds the best match.

use std::{collections::HashMap, fmt, str::FromStr};

use super::{Invalid, names::TaskPath};

/// The task paths that an executor serves: one, all with a prefix (`myapp.*`), or all (`*`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    Exact(TaskPath),
    Prefix(String),
}

impl FromStr for Pattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let checked = |path: &str| {
            path.parse::<TaskPath>().map_err(|invalid| Invalid::new("task_paths", invalid.reason))
        };
        match text.strip_suffix('*') {
            None => checked(text).map(Self::Exact),
            Some("") => Ok(Self::Prefix(String::new())),
            Some(prefix) => checked(prefix).map(|path| Self::Prefix(path.as_str().to_owned())),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => path.fmt(f),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Finds the executor for a task path. `T` is an executor's name or id.
///
/// The most specific pattern wins: an exact path before any prefix, and a longer prefix before a
/// shorter one. If two executors have the same pattern, the one that was added first wins.
#[derive(Clone, Debug)]
pub struct Routes<T> {
    exact: HashMap<String, T>,
    /// Longest prefix first.
    prefixes: Vec<(String, T)>,
}

impl<T: Copy> Routes<T> {
    pub fn new<'a>(patterns: impl IntoIterator<Item = (&'a Pattern, T)>) -> Self {
        let mut routes = Self { exact: HashMap::new(), prefixes: Vec::new() };
        for (pattern, target) in patterns {
            match pattern {
                Pattern::Exact(path) => {
                    routes.exact.entry(path.as_str().to_owned()).or_insert(target);
                }
                Pattern::Prefix(prefix) => routes.prefixes.push((prefix.clone(), target)),
            }
        }
        // The sort is stable, so among equal prefixes the first added stays first.
        routes.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        routes
    }

    /// The executor that serves `path`, if there is one.
    pub fn find(&self, path: &str) -> Option<T> {
        let by_prefix = || self.prefixes.iter().find(|(prefix, _)| path.starts_with(prefix));
        self.exact.get(path).copied().or_else(|| by_prefix().map(|(_, target)| *target))
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Routes};

    #[test]
    fn the_most_specific_pattern_wins() {
        let patterns: Vec<(Pattern, i64)> = ["*", "a.*", "a.b.*", "a.b.c", "a.*"]
            .iter()
            .zip(1..)
            .map(|(text, id)| (text.parse().unwrap(), id))
            .collect();
        let routes = Routes::new(patterns.iter().map(|(pattern, id)| (pattern, *id)));
        let found = ["a.b.c", "a.b.d", "a.x", "z"].map(|path| routes.find(path));
        assert_eq!(found, [Some(4), Some(3), Some(2), Some(1)]);
    }

    #[test]
    fn without_a_pattern_nobody_is_found() {
        let only = "a.b".parse().unwrap();
        let routes = Routes::new([(&only, 1)]);
        assert_eq!(routes.find("a.bc"), None);
    }

    #[test]
    fn a_star_stands_at_the_end_only() {
        assert!("a.*.b".parse::<Pattern>().is_err());
        assert!("**".parse::<Pattern>().is_err());
        assert!("".parse::<Pattern>().is_err());
    }
}
