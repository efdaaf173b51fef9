//! The settings of the service. A setting is taken from the first of these that has it: a
//! command-line flag, the environment (`NIGHTSHIFT_...`), the file `nightshift.toml`, or the
//! default.

mod bind;
mod database;
mod public_url;
mod security;
mod sources;
mod variables;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

pub use self::bind::Bind;
pub use self::database::{Database, DatabaseUrl, SqliteSynchronous};
pub use self::security::Hidden;
pub use self::sources::{Setting, Source, Sources};
use crate::{
    api::Limits,
    domain::{event::EventRetention, names::DirectoryName, retention::Retention},
    memory::Memory,
    plugin,
};

/// All settings of the service. Unknown names are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address or Unix socket to listen on.
    pub bind: Bind,
    /// A token with all rights, in addition to the tokens in the database.
    pub admin_token: Option<Hidden>,
    /// A file that holds this token.
    pub admin_token_file: Option<PathBuf>,
    /// How long entries of the audit log are kept.
    pub audit_retention_seconds: u64,
    /// `sqlite://PATH` or `postgres://...`.
    pub database_url: String,
    /// SQLite's durability. With `full`, commits survive a power failure; with `normal`, the last
    /// ones may be lost.
    pub sqlite_synchronous: SqliteSynchronous,
    /// Connections to the database that are used for reading.
    pub database_readers: u32,
    /// `database_url` leads to a connection pooler, such as PgBouncer, that may use another
    /// connection for each transaction. Then prepared statements cannot be used, nor LISTEN unless
    /// `database_listen_url` is set.
    pub database_pooled: bool,
    /// A direct connection to the same PostgreSQL, for LISTEN. By default `database_url`, unless
    /// that is pooled.
    pub database_listen_url: Option<String>,
    /// The URL at which executors reach this service. By default `http://BIND`, or `https://BIND`
    /// with TLS.
    pub public_url: Option<String>,
    /// A PEM file with the service's certificate and the intermediate certificates up to its
    /// authority. Without it, the service uses plain HTTP.
    pub tls_certificate: Option<PathBuf>,
    /// A PEM file with the certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Host names by which clients may address this service, beside those of loopback and of
    /// `public_url`.
    #[serde(deserialize_with = "security::texts")]
    pub allowed_hosts: Vec<String>,
    /// Origins whose web pages may use the API in a browser. `*`: all origins.
    #[serde(deserialize_with = "security::texts")]
    pub cors_origins: Vec<String>,
    /// A PEM file with certificate authorities that are trusted for HTTPS executors, beside the
    /// machine's own.
    pub executor_ca: Option<PathBuf>,
    /// Host names, `*.domains` and networks in which executors may be called. Empty: everywhere.
    #[serde(deserialize_with = "security::texts")]
    pub executor_hosts_allowed: Vec<String>,
    /// The base64 of 32 bytes: the key that encrypts executors' secrets in the database.
    pub secrets_key: Option<Hidden>,
    /// A file with such keys, one in each line. The first encrypts, and all of them decrypt.
    pub secrets_key_file: Option<PathBuf>,
    /// How many attempts this process runs at once.
    pub attempts_max: u32,
    /// How often a task is handed out before a failed delivery makes it fail as `unreachable`.
    pub deliveries_max: u32,
    /// How long SUCCESSFUL and CANCELLED tasks are kept. 0: they are not kept.
    pub retention_seconds: u64,
    /// How long FAILED tasks are kept. 0: they are not kept.
    pub retention_failed_seconds: u64,
    /// How long events are kept for readers that reconnect. 0: they are not kept.
    pub events_retention_seconds: u64,
    /// How many bytes of events are kept, about. The oldest are deleted first.
    pub events_bytes_max: u64,
    /// How long running attempts may continue after SIGTERM.
    pub shutdown_grace_seconds: u64,
    /// How long requests are still accepted after SIGTERM, while `/readyz` already fails.
    pub drain_seconds: u64,
    /// The most bytes of a request's body.
    pub body_bytes_max: usize,
    /// The most bytes of a batch's body.
    pub batch_bytes_max: usize,
    /// The most bytes of a return value, in an HTTP executor's answer or a worker's report.
    pub return_value_bytes_max: usize,
    /// The most bytes of a plugin's component.
    pub plugin_bytes_max: usize,
    /// MiB of memory for request bodies, answers until they are sent, and the args of running
    /// calls, all together. A request that finds no room is asked to come again; calls wait.
    pub payload_memory_mib: usize,
    /// The folder in which compiled plugins are kept. By default `nightshift/plugins` in the user's
    /// cache folder.
    pub plugin_cache: Option<PathBuf>,
    /// Seconds of processor time that compiling a plugin may take. The largest known plugin, the
    /// one of Python, takes 16 on a good machine.
    pub plugin_compile_seconds: u32,
    /// MiB of memory that compiling a plugin may use.
    pub plugin_compile_mib: u32,
    /// Threads on which plugins run. By default as many as there are processors.
    pub plugin_threads: Option<usize>,
    /// How many attempts of plugins run at once. Others wait.
    pub plugin_runs_max: u32,
    /// MiB of memory for all these attempts together, each counted by the most that it may use.
    /// Others wait.
    pub plugin_memory_mib: u32,
    /// Directories that executors may grant to plugins for reading, by name.
    pub plugin_directories: BTreeMap<String, PathBuf>,
    /// How long the body of a request may take to arrive completely.
    pub body_read_seconds: u64,
    /// How many connections may be open at once.
    pub connections_max: usize,
    /// Threads that serve requests.
    pub http_workers: usize,
    /// The OTLP receiver for spans, `http://HOST:4318`. By default no spans are sent.
    pub otlp_endpoint: Option<String>,
    pub log_format: LogFormat,
    /// Which log lines are written, as a filter of the crate `tracing`.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: Bind::Address(SocketAddr::from(([127, 0, 0, 1], 8700))),
            admin_token: None,
            admin_token_file: None,
            audit_retention_seconds: 365 * 24 * 3_600,
            database_url: "sqlite://nightshift.db".to_owned(),
            sqlite_synchronous: SqliteSynchronous::Full,
            database_readers: 4,
            database_pooled: false,
            database_listen_url: None,
            public_url: None,
            tls_certificate: None,
            tls_key: None,
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            executor_ca: None,
            executor_hosts_allowed: Vec::new(),
            secrets_key: None,
            secrets_key_file: None,
            attempts_max: 1_000,
            deliveries_max: 10_000,
            retention_seconds: Retention::ENDED_DEFAULT.as_secs(),
            retention_failed_seconds: Retention::FAILED_DEFAULT.as_secs(),
            events_retention_seconds: 3_600,
            events_bytes_max: 64 * 1024 * 1024,
            shutdown_grace_seconds: 25,
            drain_seconds: 0,
            body_bytes_max: 4 * 1024 * 1024,
            batch_bytes_max: 64 * 1024 * 1024,
            return_value_bytes_max: 4 * 1024 * 1024,
            plugin_bytes_max: 64 * 1024 * 1024,
            payload_memory_mib: 384,
            plugin_cache: None,
            plugin_compile_seconds: 120,
            plugin_compile_mib: 2_048,
            plugin_threads: None,
            plugin_runs_max: 64,
            plugin_memory_mib: 512,
            plugin_directories: BTreeMap::new(),
            body_read_seconds: 30,
            connections_max: 10_000,
            http_workers: 2,
            otlp_endpoint: None,
            log_format: LogFormat::Text,
            // A request that is not valid HTTP is a mistake of its sender, not of the service, so
            // it is not logged.
            log: "info,actix_server=warn,actix_http::h1::dispatcher=off".to_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// Reads the settings with `flags` on top. For commands that have to use the same database as
    /// the service; so it fails if settings of the service cannot be read.
    pub fn load(file: Option<PathBuf>, flags: impl Serialize) -> anyhow::Result<Self> {
        let sources = Sources::new(file, flags);
        if let Some(sentence) = sources.unread() {
            bail!(sentence);
        }
        sources.config()
    }

    fn check(&self) -> anyhow::Result<()> {
        self.database()?;
        self.check_security()?;
        self.check_otlp_endpoint()?;
        self.check_payload_memory()?;
        for (name, value) in [
            ("database_readers", u64::from(self.database_readers)),
            ("attempts_max", u64::from(self.attempts_max)),
            ("deliveries_max", u64::from(self.deliveries_max)),
            ("plugin_compile_seconds", u64::from(self.plugin_compile_seconds)),
            ("plugin_compile_mib", u64::from(self.plugin_compile_mib)),
            ("plugin_runs_max", u64::from(self.plugin_runs_max)),
            ("plugin_memory_mib", u64::from(self.plugin_memory_mib)),
            ("body_read_seconds", self.body_read_seconds),
            ("http_workers", self.http_workers as u64),
            ("connections_max", self.connections_max as u64),
        ] {
            if value == 0 {
                bail!("{name} must be at least 1");
            }
        }
        for name in self.plugin_directories.keys() {
            if let Err(invalid) = name.parse::<DirectoryName>() {
                bail!("plugin_directories: the name {name:?} {}", invalid.reason);
            }
        }
        Ok(())
    }

    /// The memory for payloads has to hold the largest body that is accepted, which could otherwise
    /// never be sent.
    fn check_payload_memory(&self) -> anyhow::Result<()> {
        let report = self.limits().report_bytes_max();
        let largest = report.max(self.batch_bytes_max).max(self.plugin_bytes_max);
        let needed = Memory::mib_for(largest);
        if self.payload_memory_mib < needed {
            let mib = self.payload_memory_mib;
            bail!("payload_memory_mib is {mib}, but bodies of {largest} bytes need {needed}");
        }
        Ok(())
    }

    /// The limits on what is read from a client.
    pub fn limits(&self) -> Limits {
        Limits {
            body_bytes_max: self.body_bytes_max,
            batch_bytes_max: self.batch_bytes_max,
            return_value_bytes_max: self.return_value_bytes_max,
            plugin_bytes_max: self.plugin_bytes_max,
            body_read_timeout: self.body_read_timeout(),
        }
    }

    fn check_otlp_endpoint(&self) -> anyhow::Result<()> {
        let Some(endpoint) = &self.otlp_endpoint else {
            return Ok(());
        };
        let url = url::Url::parse(endpoint).ok();
        if !url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            bail!("otlp_endpoint must be an address like http://collector:4318");
        }
        Ok(())
    }

    /// How this program compiles and runs plugins.
    pub fn plugins(&self) -> anyhow::Result<plugin::Settings> {
        let threads = || std::thread::available_parallelism().map_or(1, Into::into);
        Ok(plugin::Settings {
            cache: self.plugin_cache.clone(),
            compiler: this_program()?,
            bounds: plugin::Bounds {
                seconds: self.plugin_compile_seconds,
                mib: self.plugin_compile_mib,
            },
            threads: self.plugin_threads.unwrap_or_else(threads),
            runs_max: self.plugin_runs_max,
            memory_mib: self.plugin_memory_mib,
        })
    }

    /// How many files may be open at once: two for each connection, one for each call of an
    /// executor, and some for the database and the rest of the service.
    pub fn files_max(&self) -> u64 {
        let connections = 2 * self.connections_max as u64;
        connections + u64::from(self.attempts_max) + 4 * u64::from(self.database_readers) + 100
    }

    pub fn audit_retention(&self) -> Duration {
        Duration::from_secs(self.audit_retention_seconds)
    }

    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace_seconds)
    }

    pub fn drain_time(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    pub fn retention(&self) -> Retention {
        Retention {
            ended: Duration::from_secs(self.retention_seconds),
            failed: Duration::from_secs(self.retention_failed_seconds),
        }
    }

    pub fn event_retention(&self) -> EventRetention {
        EventRetention {
            age: Duration::from_secs(self.events_retention_seconds),
            bytes: self.events_bytes_max,
        }
    }

    pub fn body_read_timeout(&self) -> Duration {
        Duration::from_secs(self.body_read_seconds)
    }
}

/// The program that is running, even if its file has been replaced by another version since.
fn this_program() -> anyhow::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        return Ok(running);
    }
    std::env::current_exe().context("this program cannot be found")
}
