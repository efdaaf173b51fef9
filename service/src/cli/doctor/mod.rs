//! `nightshift doctor`: looks at everything that a service needs, and changes nothing.

mod database;
mod disk;
mod executors;
mod report;
mod service;

use std::process::ExitCode;

use clap::Args;

use self::report::{Check, Report};
use super::{ConfigFile, SERVER, output::Output, serve::Flags};
use crate::{
    clock::{Clock, SystemClock},
    config::{Config, Sources},
    store, telemetry,
    tls::{Certificates, Good, TlsFiles},
};

/// Exit status when something has failed.
const FAILED: u8 = 1;

/// Check settings, database, disk, service and executors
///
/// Prints each setting and its source, and changes nothing. Exit status: 0 if no check failed, else
/// 1.
#[derive(Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    flags: Flags,
}

impl Doctor {
    pub(super) async fn run(
        self,
        server: &str,
        token: Option<&str>,
        out: Output,
    ) -> anyhow::Result<ExitCode> {
        let report = examine(Sources::new(self.file.config, self.flags), server, token).await?;
        out.print(&report, Report::show)?;
        Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
    }
}

async fn examine(sources: Sources, server: &str, token: Option<&str>) -> anyhow::Result<Report> {
    let config = match sources.config() {
        Ok(config) => config,
        Err(error) => return Ok(Report::new(Vec::new(), vec![Check::fail("settings", error)])),
    };
    let mut checks = vec![match readable(&config) {
        Ok(()) => Check::ok("settings", "they can be used"),
        Err(error) => Check::fail("settings", error),
    }];
    checks.extend(sources.unread().map(|sentence| Check::fail("environment", sentence)));
    checks.extend(secrets(&sources.exposed(&config)?));
    let inspected = inspect(&config).await?;
    checks.extend(database::checks(&inspected));
    checks.extend(open_door(&config, &inspected)?);
    checks.extend(config.misses_public_url().map(|sentence| Check::warn("public_url", sentence)));
    checks.extend(disk::checks(&config)?);
    checks.extend(config.tls()?.map(certificate));
    checks.push(service::check(&service_address(&config, server), token).await?);
    if let database::Inspected::Found(inspection) = &inspected {
        let reach = config.executor_reach()?;
        checks.extend(executors::checks(&inspection.executors, &reach).await);
    }
    Ok(Report::new(sources.settings(&config)?, checks))
}

/// What a start reads besides.
fn readable(config: &Config) -> anyhow::Result<()> {
    telemetry::filter(&config.log)?;
    config.vault()?;
    config.executor_authorities()?;
    Ok(())
}

/// Whether secrets are kept from the other users of the machine.
fn secrets(exposed: &[String]) -> Vec<Check> {
    if exposed.is_empty() {
        let message = "no file with secrets can be read by everybody on this machine";
        return vec![Check::ok("secrets", message)];
    }
    exposed.iter().map(|sentence| Check::warn("secrets", sentence)).collect()
}

/// Whether a start would be refused because everybody could come in.
fn open_door(config: &Config, inspected: &database::Inspected) -> anyhow::Result<Option<Check>> {
    let asked = match inspected {
        database::Inspected::Found(inspection) => inspection.has_tokens,
        database::Inspected::Missing => false,
        database::Inspected::Gone | database::Inspected::Unreachable(_) => return Ok(None),
    };
    if asked || config.bind.is_local() || config.admin_token()?.is_some() {
        return Ok(None);
    }
    let message = format!("bind is {}, but there is no token: serve will not start", config.bind);
    Ok(Some(Check::fail("tokens", message)))
}

/// Whether the service could show the certificate, and clients would take it.
fn certificate(files: TlsFiles) -> Check {
    let place = files.certificate.display().to_string();
    match Certificates::load(files) {
        Ok(certificates) => match certificates.term().at(SystemClock::default().now()) {
            Good::Yes => {
                let ends = certificates.term().ends;
                Check::ok("certificate", format!("{place} and its key can be used until {ends}"))
            }
            Good::NotForLong(why) => Check::warn("certificate", format!("{place}: {why}")),
            Good::No(why) => Check::fail("certificate", format!("{place}: {why}")),
        },
        Err(error) => Check::fail("certificate", error),
    }
}

/// On a thread of its own, since it waits for the database.
async fn inspect(config: &Config) -> anyhow::Result<database::Inspected> {
    let database = config.database()?;
    let look = move || {
        if !store::exists(&database) {
            return if store::is_in_use(&database) {
                database::Inspected::Gone
            } else {
                database::Inspected::Missing
            };
        }
        match store::inspect(&database, &SystemClock::default()) {
            Ok(inspection) => database::Inspected::Found(inspection),
            Err(error) => database::Inspected::Unreachable(error),
        }
    };
    Ok(tokio::task::spawn_blocking(look).await?)
}

/// The one that was named, or where these settings would listen; by a name of the certificate, if
/// they say one.
fn service_address(config: &Config, server: &str) -> String {
    match (&config.tls_certificate, &config.public_url) {
        _ if server != SERVER => server.to_owned(),
        (Some(_), Some(public)) => public.clone(),
        (Some(_), None) => config.bind.server("https"),
        (None, _) => config.bind.server("http"),
    }
}
