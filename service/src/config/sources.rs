//! Reads the settings from their sources, and tells for each setting which source it came from, so
//! that a wrong setting can be found.

use std::{
    fmt,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use figment::{
    Figment,
    error::Kind,
    providers::{Env, Format, Serialized, Toml},
};
use serde::Serialize;
use serde_json::Value;

use super::{Bind, Config, DatabaseUrl, variables::Variables};

const PREFIX: &str = "NIGHTSHIFT_";

/// Variables with the same prefix that are meant for clients, not for the service.
const CLIENT_VARIABLES: &[&str] = &["server", "token", "secret"];

/// Values of settings whose names end so are never shown.
const HIDDEN: &[&str] = &["_token", "_secret", "_password", "secrets_key"];
const HIDDEN_TEXT: &str = "(hidden)";

/// All sources of settings. Later ones override earlier ones.
pub struct Sources {
    file: Figment,
    variables: Variables,
    environment: Figment,
    flags: Figment,
}

/// The source from which a setting came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    File(PathBuf),
    /// A file of environment variables beside the settings file.
    Variables(PathBuf),
    Environment(String),
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) | Self::Variables(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A setting as it is shown to the user.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    pub name: String,
    /// Passwords are left out.
    pub value: Value,
    pub source: String,
}

impl Sources {
    /// Sources: the settings file (`nightshift.toml` if `file` is `None`), the environment, and
    /// `flags`. If a file is named, a file of variables beside it is read, too.
    pub fn new(file: Option<PathBuf>, flags: impl Serialize) -> Self {
        let beside = |file: &PathBuf| Variables::beside(file, setting_of_variable);
        let variables = file.as_ref().map_or_else(Variables::none, beside);
        // The file is not searched for in parent folders, which may hold files of other programs or
        // users.
        let file = file.or_else(|| Path::new("nightshift.toml").canonicalize().ok());
        Self {
            file: file.map(Toml::file_exact).map_or_else(Figment::new, Figment::from),
            variables,
            environment: Figment::from(
                Env::prefixed(PREFIX)
                    .ignore(CLIENT_VARIABLES)
                    .filter(|name| is_meant(&name.as_str().to_uppercase())),
            ),
            flags: Figment::from(Serialized::globals(flags)),
        }
    }

    /// Merges and checks the settings. The error is one sentence that names the wrong setting and
    /// its source.
    pub fn config(&self) -> anyhow::Result<Config> {
        let mut config: Config = Figment::from(Serialized::defaults(Config::default()))
            .merge(&self.file)
            .merge(&self.variables.settings)
            .merge(&self.environment)
            .merge(&self.flags)
            .extract()
            .map_err(|error| anyhow!(self.sentence(error)))?;
        self.anchor(&mut config);
        config.check()?;
        Ok(config)
    }

    /// Makes relative paths in the file start at the file's folder, wherever the command was
    /// started.
    fn anchor(&self, config: &mut Config) {
        let anchor = |name: &str, path: &mut PathBuf| {
            if let Source::File(file) = self.source(name) {
                *path = file.with_file_name("").join(&path);
            }
        };
        for (name, path) in [
            ("admin_token_file", &mut config.admin_token_file),
            ("tls_certificate", &mut config.tls_certificate),
            ("tls_key", &mut config.tls_key),
            ("executor_ca", &mut config.executor_ca),
            ("secrets_key_file", &mut config.secrets_key_file),
            ("plugin_cache", &mut config.plugin_cache),
        ] {
            if let Some(path) = path {
                anchor(name, path);
            }
        }
        if let Bind::Socket(path) = &mut config.bind {
            anchor("bind", path);
        }
        for (name, path) in &mut config.plugin_directories {
            anchor(&format!("plugin_directories.{name}"), path);
        }
        // A URL without a path is refused later, by `check`.
        if let Ok(DatabaseUrl::Sqlite(mut path)) = config.database_url.parse() {
            anchor("database_url", &mut path);
            config.database_url = format!("sqlite://{}", path.display());
        }
    }

    /// If the file of variables exists but cannot be read, and no other source names the database:
    /// a sentence that says so. The command would otherwise use another database than the service.
    pub fn unread(&self) -> Option<String> {
        let error = self.variables.unread.as_ref()?;
        let database = "database_url";
        if self.flags.contains(database) || self.environment.contains(database) {
            return None;
        }
        Some(format!(
            "{} cannot be read ({error}), and may say which database is meant: run this as a user who \
             may read it, or say it with --database-url",
            self.variables.path.display()
        ))
    }

    /// All settings by name, with their sources.
    pub fn settings(&self, config: &Config) -> anyhow::Result<Vec<Setting>> {
        let Value::Object(values) = serde_json::to_value(config)? else {
            return Ok(Vec::new());
        };
        let shown = values.into_iter().map(|(name, value)| Setting {
            source: self.source(&name).to_string(),
            value: presentable(&name, value),
            name,
        });
        Ok(shown.collect())
    }

    /// A sentence for each file with secrets that every user of the machine can read.
    pub fn exposed(&self, config: &Config) -> anyhow::Result<Vec<String>> {
        let mut files = vec![
            ("admin_token_file".to_owned(), config.admin_token_file.clone()),
            ("secrets_key_file".to_owned(), config.secrets_key_file.clone()),
            ("tls_key".to_owned(), config.tls_key.clone()),
        ];
        if let DatabaseUrl::Sqlite(path) = config.database()?.url {
            files.push(("the database".to_owned(), Some(path)));
        }
        let Value::Object(values) = serde_json::to_value(config)? else {
            return Ok(Vec::new());
        };
        for (name, value) in values {
            if let Source::File(path) | Source::Variables(path) = self.source(&name)
                && !value.is_null()
                && (is_hidden(&name) || presentable(&name, value.clone()) != value)
            {
                files.push((format!("with the setting {name}"), Some(path)));
            }
        }
        let exposed = |(what, path): (String, Option<PathBuf>)| {
            let path = path.filter(|path| is_for_everybody(path))?;
            let path = path.display();
            Some(format!("{path} ({what}) can be read by everybody on this machine: chmod o-r"))
        };
        Ok(files.into_iter().filter_map(exposed).collect())
    }

    fn source(&self, name: &str) -> Source {
        if self.flags.contains(name) {
            return Source::Flag(format!("--{}", name.replace('_', "-")));
        }
        if self.environment.contains(name) {
            return Source::Environment(format!("{PREFIX}{}", name.to_uppercase()));
        }
        if self.variables.settings.contains(name) {
            return Source::Variables(self.variables.path.clone());
        }
        let found = self.file.find_metadata(name).and_then(|found| found.source.as_ref());
        let path = found.and_then(|source| source.file_path());
        path.map_or(Source::Default, |path| Source::File(path.to_owned()))
    }

    /// A sentence for the first error.
    fn sentence(&self, errors: figment::Error) -> String {
        let Some(error) = errors.into_iter().next() else {
            return "the settings cannot be read".to_owned();
        };
        if let Kind::UnknownField(name, _) = &error.kind {
            return format!("there is no setting {name}; it comes from: {}", self.source(name));
        }
        let Some(name) = error.path.first() else {
            return unreadable(&error);
        };
        let what = if is_hidden(name) {
            "its value is of the wrong type".to_owned()
        } else {
            one_line(&error.kind.to_string())
        };
        format!("the setting {name} cannot be used: {what}; it comes from: {}", self.source(name))
    }
}

/// The setting that a variable in the file stands for.
fn setting_of_variable(name: &str) -> Option<String> {
    let name = name.strip_prefix(PREFIX)?.to_lowercase();
    (!CLIENT_VARIABLES.contains(&name.as_str())).then_some(name)
}

/// Whether a variable of the environment is meant as a setting. An empty one is not, nor are those
/// that Kubernetes sets in every pod if there is a Kubernetes service named nightshift.
fn is_meant(name: &str) -> bool {
    let value = |name: &str| std::env::var_os(format!("{PREFIX}{name}"));
    let is_address =
        |name| value(name).is_some_and(|value| value.to_string_lossy().contains("://"));
    let is_link = name == "SERVICE_HOST"
        || name == "SERVICE_PORT"
        || name.starts_with("SERVICE_PORT_")
        || ((name == "PORT" || name.starts_with("PORT_")) && is_address("PORT"));
    !is_link && value(name).is_none_or(|value| !value.is_empty())
}

/// Whether users other than the owner and the group can read the file, which needs access to all
/// folders above it.
fn is_for_everybody(path: &Path) -> bool {
    let allows = |path: &Path, bits: u32| {
        path.metadata().is_ok_and(|about| about.permissions().mode() & bits != 0)
    };
    path.canonicalize().is_ok_and(|path| {
        allows(&path, 0o004) && path.ancestors().skip(1).all(|folder| allows(folder, 0o001))
    })
}

/// A sentence for an error that belongs to no setting, such as a file that is not TOML.
fn unreadable(error: &figment::Error) -> String {
    // Leave out the quoted line, which may hold a password. The message has the line's number.
    let is_shown = |line: &&str| {
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        !rest.starts_with('|')
    };
    let text = error.kind.to_string();
    let what = one_line(&text.lines().filter(is_shown).collect::<Vec<_>>().join(" "));
    let source = error.metadata.as_ref().and_then(|metadata| metadata.source.as_ref());
    match source.and_then(|source| source.file_path()) {
        Some(path) => {
            let from = Source::File(path.to_owned());
            format!("the settings cannot be read: {what}; it comes from: {from}")
        }
        None => format!("the settings cannot be read: {what}"),
    }
}

/// Joins the lines of a parser's message, which shows the place over several lines.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

fn is_hidden(name: &str) -> bool {
    HIDDEN.iter().any(|end| name.ends_with(end))
}

fn presentable(name: &str, value: Value) -> Value {
    if is_hidden(name) && !value.is_null() {
        return Value::from(HIDDEN_TEXT);
    }
    let address = value.as_str().filter(|text| text.contains("://")).map(without_password);
    address.map_or(value, Value::from)
}

/// The URL with its passwords hidden. A URL parser cannot be used, since PostgreSQL's URLs may name
/// several hosts.
fn without_password(address: &str) -> String {
    // A password may hold a question mark, so look for one after the last `@` only.
    let login = address.rfind('@').unwrap_or(0);
    let (address, query) = match address[login..].find('?') {
        Some(place) => (&address[..login + place], Some(&address[login + place + 1..])),
        None => (address, None),
    };
    let mut shown = match address.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", without_user_password(rest)),
        None => address.to_owned(),
    };
    if let Some(query) = query {
        let pairs: Vec<String> = query.split('&').map(without_secret_value).collect();
        shown.push('?');
        shown.push_str(&pairs.join("&"));
    }
    shown
}

fn without_user_password(rest: &str) -> String {
    // A password may hold an `@` or a slash, so split at the last `@`.
    match rest.rsplit_once('@') {
        Some((login, host)) => match login.split_once(':') {
            Some((user, _password)) => format!("{user}:{HIDDEN_TEXT}@{host}"),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    }
}

fn without_secret_value(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name @ ("password" | "sslpassword"), _)) => format!("{name}={HIDDEN_TEXT}"),
        _ => pair.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn passwords_in_addresses_are_hidden() {
        for (address, shown) in [
            ("postgres://u:p@ss/w@h1,h2/db?a=b", "postgres://u:(hidden)@h1,h2/db?a=b"),
            ("postgres://u:p?s@h/db?a=b", "postgres://u:(hidden)@h/db?a=b"),
            ("postgres://h/db?user=u&password=p", "postgres://h/db?user=u&password=(hidden)"),
            ("postgres://u@h/db", "postgres://u@h/db"),
            ("http://h:4318", "http://h:4318"),
            ("sqlite://a.db", "sqlite://a.db"),
        ] {
            assert_eq!(without_password(address), shown);
        }
    }
}
