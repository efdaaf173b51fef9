//! Reads settings from a file of environment variables that lies beside the settings file. In the
//! packages, systemd passes that file to the service; commands that are typed by hand have to use
//! the same settings.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use figment::{Figment, providers::Serialized, value::Value};

/// The name of the file, in the folder of `nightshift.toml`.
const FILE: &str = "environment";

/// The settings in the file, or why it cannot be read.
pub(super) struct Variables {
    pub(super) path: PathBuf,
    pub(super) settings: Figment,
    pub(super) unread: Option<io::Error>,
}

impl Variables {
    /// Reads the file beside a settings file. `meant` returns the setting that a variable stands
    /// for.
    pub(super) fn beside(file: &Path, meant: impl Fn(&str) -> Option<String>) -> Self {
        let path = file.with_file_name(FILE);
        let (text, unread) = match fs::read_to_string(&path) {
            Ok(text) => (text, None),
            Err(error) if error.kind() == ErrorKind::NotFound => (String::new(), None),
            Err(error) => (String::new(), Some(error)),
        };
        let settings: BTreeMap<String, Value> = pairs(&text)
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(name, value)| Some((meant(&name)?, typed(&value))))
            .collect();
        Self { path, settings: Figment::from(Serialized::globals(settings)), unread }
    }

    pub(super) fn none() -> Self {
        Self { path: PathBuf::new(), settings: Figment::new(), unread: None }
    }
}

/// Parses a value as it would be parsed in a real environment variable.
fn typed(value: &str) -> Value {
    value.parse().unwrap_or_else(|never| match never {})
}

/// The names and values in an `EnvironmentFile=`, by the rules of systemd.exec(5).
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    lines.filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((name.trim().to_owned(), unquoted(value.trim())))
    })
}

fn unquoted(value: &str) -> String {
    let within = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    match (within('\''), within('"')) {
        (Some(text), _) => text.to_owned(),
        (None, Some(text)) => unescaped(text, |c| matches!(c, '"' | '\\' | '`' | '$')),
        (None, None) => unescaped(value, |_| true),
    }
}

fn unescaped(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match rest.next_if(|next| c == '\\' && is_escaped(*next)) {
            Some(next) => plain.push(next),
            None => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::pairs;

    #[test]
    fn variables_are_read_as_systemd_reads_them() {
        let text = r#"
            # NIGHTSHIFT_A=1
            ; NIGHTSHIFT_B=1
            PLAIN=postgres://u:p$w=d@h/db?a=b
            SINGLE='a \ "b" # c'
            DOUBLE="a \"b\" \$c \n"
            ESCAPED=a\ b
            EMPTY=
            nothing
        "#;
        let found: Vec<_> = pairs(text).collect();
        let expected = [
            ("PLAIN", "postgres://u:p$w=d@h/db?a=b"),
            ("SINGLE", r#"a \ "b" # c"#),
            ("DOUBLE", r#"a "b" $c \n"#),
            ("ESCAPED", "a b"),
            ("EMPTY", ""),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
