//! Checked names: task paths, queues, executors, plugins, tokens and directories. A value of such a
//! type is always valid, since it can be made only by parsing.

use std::{fmt, str::FromStr};

use super::{
    Invalid,
    limits::{EXECUTOR_NAME_CHARS_MAX, NAME_CHARS_MAX},
};

/// Declares a text type that is made only by its `FromStr`, which checks the text.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $field:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                $check(text).map_err(|reason| Invalid::new($field, reason))?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// Names the code that a task runs, such as `myapp.tasks.extract_sources`.
    TaskPath, "task_path", check_name
}
name_type! {
    /// Names the queue in which a task waits.
    QueueName, "queue_name", check_name
}
name_type! {
    /// Names an executor. It is part of a URL path, so few characters are allowed.
    ExecutorName, "name", check_executor_name
}

name_type! {
    /// Names a plugin. It is part of a URL path, too.
    PluginName, "name", check_executor_name
}
name_type! {
    /// Names an access token. It is part of a URL path, too.
    TokenName, "name", check_executor_name
}
name_type! {
    /// Names a directory of this machine that the settings offer to plugins.
    DirectoryName, "grants/directories", check_executor_name
}

impl QueueName {
    /// The queue of tasks that do not name one.
    pub fn default_queue() -> Self {
        Self("default".to_owned())
    }
}

/// Checks a task path or queue name. Names are shown, compared and typed, so only visible
/// characters are allowed. `*` is reserved for patterns.
fn check_name(text: &str) -> Result<(), String> {
    let count = text.chars().count();
    if count == 0 || count > NAME_CHARS_MAX {
        return Err(format!("needs 1 to {NAME_CHARS_MAX} characters, has {count}"));
    }
    match text.chars().find(|c| c.is_whitespace() || c.is_control() || *c == '*') {
        Some(c) => Err(format!("must not contain {c:?}")),
        None => Ok(()),
    }
}

/// Checks a name that is part of a URL path.
fn check_executor_name(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > EXECUTOR_NAME_CHARS_MAX {
        return Err(format!("needs 1 to {EXECUTOR_NAME_CHARS_MAX} characters"));
    }
    if text.starts_with('.') {
        return Err("must not start with a dot".to_owned());
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-".contains(*c))) {
        Some(c) => Err(format!("may hold A-Z a-z 0-9 . _ - only, not {c:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{ExecutorName, TaskPath};

    #[test]
    fn b43_odd_names_work_or_are_refused() {
        for good in ["../x", "a/b", "%2e%2e", "🚀", "CON", &"x".repeat(255)] {
            assert!(good.parse::<TaskPath>().is_ok(), "{good}");
        }
        for bad in ["", &"x".repeat(300), "a b", "a\u{0}", "a*", "a\n"] {
            assert!(bad.parse::<TaskPath>().is_err(), "{bad}");
        }
        for bad in ["", "..", "a/b", "é", &"x".repeat(101)] {
            assert!(bad.parse::<ExecutorName>().is_err(), "{bad}");
        }
        assert!("tom-worker_1.eu".parse::<ExecutorName>().is_ok());
    }
}
