use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use sd_notify::NotifyState;
use serde::Serialize;

use super::{ConfigFile, FAILURE};
use crate::{
    app::{App, Outside},
    config::{Bind, Config, LogFormat, Sources},
    shutdown::StopSignals,
    telemetry,
};

/// Run the service.
///
/// On SIGTERM, SIGINT or SIGHUP the service starts no more tasks, waits for running attempts, hands
/// back those that have not ended, and exits with status 0. A second signal ends the wait. Under
/// nohup, SIGHUP is ignored. Exit status 2: the service could not start, or one of its parts failed
/// and it has to be started again.
#[derive(Args)]
pub(super) struct Serve {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    flags: Flags,
}

/// Settings that are often given by hand; each has its like in the file and the environment.
#[derive(Args, Default, Serialize)]
pub(super) struct Flags {
    /// Address to listen on, or a Unix socket as unix:/PATH [default: 127.0.0.1:8700]
    #[arg(long, value_name = "ADDRESS:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    bind: Option<Bind>,
    /// File that holds an access token with all rights
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_token_file: Option<PathBuf>,
    /// Database: sqlite://PATH or postgres://... [default: sqlite://nightshift.db]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) database_url: Option<String>,
    /// Address at which executors and clients reach this service [default: http://BIND]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    public_url: Option<String>,
    /// Certificate chain (PEM); the service then accepts HTTPS only
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_certificate: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_key: Option<PathBuf>,
    /// Host names by which clients may call this service, in addition to localhost and the host of
    /// the public URL
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_hosts: Vec<String>,
    /// Origins whose web pages may call the API
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cors_origins: Vec<String>,
    /// Certificate authorities (PEM) to trust for executors, in addition to the system's
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    executor_ca: Option<PathBuf>,
    /// Call executors only on these hosts, *.domains and networks
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    executor_hosts_allowed: Vec<String>,
    /// File with the keys that encrypt executors' secrets
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets_key_file: Option<PathBuf>,
    /// Time that running attempts have to end after SIGTERM [default: 25]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    shutdown_grace_seconds: Option<u64>,
    /// Time in which requests are still accepted after SIGTERM, so that a proxy can switch to
    /// another replica [default: 0]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_seconds: Option<u64>,
    /// OTLP receiver to send traces to over HTTP, such as http://HOST:4318 [default: no traces]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    otlp_endpoint: Option<String>,
    /// Format of the log: text for people, JSON for programs [default: text]
    #[arg(long, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let sources = Sources::new(self.file.config, self.flags);
        let config = sources.config()?;
        telemetry::init(&config.log, config.log_format)?;
        for exposed in sources.exposed(&config)? {
            tracing::warn!("{exposed}");
        }
        if let Some(sentence) = config.misses_public_url() {
            tracing::warn!("{sentence}");
        }
        raise_open_files(&config);
        // Listened for from the start: a signal must not find the default, which kills.
        let mut signals = StopSignals::listen()?;
        let settings = config.clone();
        // On a thread of its own: it waits for the database, and for others who migrate it.
        let starting =
            tokio::task::spawn_blocking(move || App::start(&settings, Outside::real(&settings)?));
        let app = tokio::select! {
            app = starting => app??,
            () = signals.next() => {
                tracing::info!("stopped before it was ready");
                return Ok(ExitCode::SUCCESS);
            }
        };
        tracing::info!(
            address = %app.address(),
            database = ?config.database()?.url,
            "nightshift is ready"
        );
        tell_systemd(NotifyState::Ready);
        let vital = app.vital().clone();
        tokio::select! {
            () = signals.next() => {}
            part = vital.lost() => {
                tracing::error!(
                    part,
                    all = ?vital.ended(),
                    "what the service cannot do without has ended, and so does the process"
                );
                return Ok(ExitCode::from(FAILURE));
            }
        }
        tracing::info!("stopping; a second signal stops at once");
        tell_systemd(NotifyState::Stopping);
        let hurry = app.hurry();
        let stopping = tokio::spawn(app.stop());
        let hurrying = tokio::spawn(async move {
            signals.next().await;
            hurry.cancel();
        });
        stopping.await??;
        hurrying.abort();
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    }
}

/// Does nothing unless systemd, or what does as it does, started this process.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd cannot be told how the service is");
    }
}

/// A connection takes two descriptors, and many systems begin with 1,024 of them.
fn raise_open_files(config: &Config) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    match raised {
        Ok(hard) if hard < config.files_max() => tracing::warn!(
            "{hard} files may be open at once, but with connections_max and attempts_max as they are \
             {} may have to be, and what finds none fails: raise the hard limit (ulimit -Hn, \
             LimitNOFILE= of systemd, --ulimit nofile= of Docker), or lower these settings",
            config.files_max()
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}
