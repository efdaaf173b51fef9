//! Plugins: the components that are installed under a name, and the tasks that each describes.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    str::FromStr,
};

use super::{
    Invalid, Timestamp,
    limits::{
        DESCRIPTION_BYTES_MAX, DESCRIPTIONS_BYTES_MAX, MEMORY_MIB_MAX, MEMORY_MIB_MIN,
        SUMMARY_CHARS_MAX, TASK_PATHS_MAX, storable,
    },
    names::{PluginName, TaskPath},
    task::Options,
};

/// MiB of memory that one run may use, unless the executor's registration says otherwise.
pub const MEMORY_MIB_DEFAULT: u32 = 128;

/// SHA-256 of a component. Names its version: equal components have equal digests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let malformed = || Invalid::new("digest", "must be 64 hexadecimal digits");
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(malformed());
        }
        let half = |range| u128::from_str_radix(text.get(range)?, 16).ok();
        let (Some(high), Some(low)) = (half(0..32), half(32..64)) else {
            return Err(malformed());
        };
        let mut digest = [0; 32];
        let (first, second) = digest.split_at_mut(16);
        first.copy_from_slice(&high.to_be_bytes());
        second.copy_from_slice(&low.to_be_bytes());
        Ok(Self(digest))
    }
}

/// A task that a plugin runs, as the plugin describes it, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginTask {
    pub path: TaskPath,
    /// One line.
    pub summary: String,
    /// Markdown.
    pub description: Option<String>,
    /// Options for the task's attempts. They apply if neither the task nor its executor sets them.
    pub defaults: Options,
}

impl PluginTask {
    /// Checks the texts, and brings them into a form that both engines can store.
    pub fn checked(self) -> Result<Self, Invalid> {
        let summary = storable(&self.summary).into_owned();
        let characters = summary.chars().count();
        if characters > SUMMARY_CHARS_MAX || summary.chars().any(char::is_control) {
            let reason = format!("must be one line of at most {SUMMARY_CHARS_MAX} characters");
            return Err(Invalid::new("summary", reason));
        }
        let description = self.description.map(|text| storable(&text).into_owned());
        if description.as_ref().is_some_and(|text| text.len() > DESCRIPTION_BYTES_MAX) {
            let reason = format!("has more than {DESCRIPTION_BYTES_MAX} bytes");
            return Err(Invalid::new("description", reason));
        }
        Ok(Self { summary, description, ..self })
    }
}

/// The tasks that a plugin runs: 1 to 1,000, none of them twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Description(Vec<PluginTask>);

/// Refuses too few, too many or repeated tasks, and descriptions that are too long together.
impl Description {
    pub fn new(tasks: Vec<PluginTask>) -> Result<Self, Invalid> {
        let number = tasks.len();
        if number == 0 || number > TASK_PATHS_MAX {
            let reason = format!("must be 1 to {TASK_PATHS_MAX}, not {number}");
            return Err(Invalid::new("tasks", reason));
        }
        let help: usize =
            tasks.iter().filter_map(|t| t.description.as_ref().map(String::len)).sum();
        if help > DESCRIPTIONS_BYTES_MAX {
            let reason = format!("have descriptions of more than {DESCRIPTIONS_BYTES_MAX} bytes");
            return Err(Invalid::new("tasks", reason));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = tasks.iter().find(|task| !seen.insert(task.path.as_str())) {
            return Err(Invalid::new("tasks", format!("name {} twice", twice.path)));
        }
        Ok(Self(tasks))
    }

    pub fn tasks(&self) -> &[PluginTask] {
        &self.0
    }
}

/// One component that was installed under a plugin's name.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginVersion {
    pub digest: Digest,
    pub bytes: u64,
    pub description: Description,
    pub installed_at: Timestamp,
    /// When it last became the active version.
    pub activated_at: Timestamp,
}

/// An installed plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    pub name: PluginName,
    /// The active version, which new attempts run, then the earlier ones, latest first.
    pub versions: Vec<PluginVersion>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Plugin {
    pub fn active_version(&self) -> Option<&PluginVersion> {
        self.versions.first()
    }
}

/// A component with its description, ready to be stored.
#[derive(Clone)]
pub struct NewPlugin {
    pub name: PluginName,
    pub digest: Digest,
    pub description: Description,
    pub component: bytes::Bytes,
}

/// The version of its plugin that an executor runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveVersion {
    pub digest: Digest,
    /// The plugin's default options of each task, by task path.
    pub defaults: HashMap<String, Options>,
}

impl From<&PluginVersion> for ActiveVersion {
    fn from(version: &PluginVersion) -> Self {
        let defaults = |task: &PluginTask| (task.path.as_str().to_owned(), task.defaults);
        Self {
            digest: version.digest,
            defaults: version.description.tasks().iter().map(defaults).collect(),
        }
    }
}

/// Checks how many MiB of memory a run may use, if that came from outside.
pub fn memory_mib(number: i64) -> Result<u32, Invalid> {
    u32::try_from(number)
        .ok()
        .filter(|mib| (MEMORY_MIB_MIN..=MEMORY_MIB_MAX).contains(mib))
        .ok_or_else(|| {
            let reason = format!("must be {MEMORY_MIB_MIN} to {MEMORY_MIB_MAX}");
            Invalid::new("memory_mib", reason)
        })
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn a_digest_survives_its_text() {
        let digest = Digest(std::array::from_fn(|index| u8::try_from(index * 8).unwrap()));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for odd in ["", "12", &"g".repeat(64), &"+".repeat(64)] {
            assert!(odd.parse::<Digest>().is_err(), "{odd}");
        }
    }
}
