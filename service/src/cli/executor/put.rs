//! Registers an executor, or changes what is registered.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::Args;
use nightshift_client::{
    Client,
    types::{ErrorCode, Executor, ExecutorKind, ExecutorRequest, Grants},
};

use super::{make_secret, show, variable};
use crate::{cli::output::Output, entropy::Entropy};

/// Options that are left out keep the settings of a registered executor.
#[derive(Args)]
pub(in crate::cli) struct Put {
    /// The executor's name
    name: String,
    /// Address to call for each task. A new executor without --url and without --plugin is of kind
    /// worker: workers lease its tasks
    #[arg(long)]
    url: Option<String>,
    /// Installed plugin that runs the tasks
    #[arg(long, conflicts_with = "url")]
    plugin: Option<String>,
    /// Task path that the executor serves: exact, a prefix (myapp.tasks.*), or all (*); may be
    /// repeated; replaces all earlier ones [default: the paths that the plugin describes]
    #[arg(long)]
    task_path: Vec<String>,
    /// Signing secret: whsec_ and the base64 of 24 to 64 bytes [default: the stored one; for a new
    /// executor the value of NIGHTSHIFT_SECRET, or a new secret, which is printed once]
    #[arg(long)]
    secret: Option<String>,
    /// By its variable only.
    #[arg(long, hide = true, env = "NIGHTSHIFT_SECRET", hide_env_values = true)]
    secret_of_new: Option<String>,
    /// Old signing secret, to sign with both while the secret is replaced
    #[arg(long, requires = "secret")]
    previous_secret: Option<String>,
    /// Treat an answer as success only if its header nightshift-task-id holds the task's id
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    echoes_task_id: Option<bool>,
    /// Memory limit of one run of the plugin, in MiB [default: 128]
    #[arg(long)]
    memory_mib: Option<i64>,
    /// Host that the plugin may send HTTP requests to, in addition to those granted before
    #[arg(long, value_name = "HOST[:PORT]")]
    grant_http: Vec<String>,
    /// Directory of the service's plugin_directories that the plugin may read, in addition to those
    /// granted before
    #[arg(long, value_name = "NAME")]
    grant_directory: Vec<String>,
    /// Environment variable of the plugin
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    grant_env: Vec<(String, String)>,
    /// Host, directory or variable that the plugin loses
    #[arg(long, value_name = "NAME")]
    revoke: Vec<String>,
    /// Largest number of tasks that run at the same time [default: 10; no limit for workers]
    #[arg(long)]
    concurrency: Option<i64>,
    /// Length of a lease; an attempt that is not renewed for this time is lost [default: 30]
    #[arg(long)]
    lease_seconds: Option<i64>,
    /// Longest time of one attempt, for tasks that set none
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// Largest number of attempts, for tasks that set none
    #[arg(long)]
    max_attempts: Option<i64>,
    /// Start no tasks of the executor
    #[arg(long)]
    paused: bool,
    /// Start tasks of a paused executor again
    #[arg(long, conflicts_with = "paused")]
    resume: bool,
    /// Replace the whole registration: options that are left out get their defaults
    #[arg(long)]
    reset: bool,
}

impl Put {
    pub(super) async fn run(self, client: &Client, out: Output) -> anyhow::Result<()> {
        let before = if self.reset { None } else { registered(client, &self.name).await? };
        let kind = match (&self.url, &self.plugin, &before) {
            (Some(_), _, _) => ExecutorKind::Http,
            (None, Some(_), _) => ExecutorKind::Wasm,
            (None, None, Some(before)) => before.kind,
            (None, None, None) => ExecutorKind::Worker,
        };
        let was_called = before.as_ref().is_some_and(|before| before.kind == ExecutorKind::Http);
        let needs_secret = kind == ExecutorKind::Http && !was_called && self.secret.is_none();
        // Of an executor that has one, the variable may be meant for another.
        let given = self.secret_of_new.clone().filter(|_| needs_secret);
        let made = (needs_secret && given.is_none()).then(|| make_secret(&Entropy::from_system()));
        let name = self.name.clone();
        let mut request = self.onto(kind, before)?;
        request.secret = request.secret.or(given).or_else(|| made.clone());
        let executor = client.put_executor(&name, &request).await?;
        out.print(&executor, show)?;
        match made {
            // Beside the registration, which never holds it.
            Some(secret) if out.json => {
                out.print(&BTreeMap::from([("secret", secret)]), |_| String::new())
            }
            Some(secret) => out.print(&secret, |secret| format!("secret       {secret}")),
            None => Ok(()),
        }
    }

    /// The registration, changed as the command says. Settings of another kind go.
    fn onto(self, kind: ExecutorKind, before: Option<Executor>) -> anyhow::Result<ExecutorRequest> {
        let is_new = before.is_none();
        let mut request = before.map(request_of).unwrap_or_default();
        if request.kind != kind {
            request.url = None;
            request.echoes_task_id = false;
            (request.plugin, request.memory_mib, request.grants) = (None, None, None);
        }
        request.kind = kind;
        if !self.task_path.is_empty() {
            request.task_paths = self.task_path;
        } else if self.plugin.is_some() && self.plugin != request.plugin {
            // Those that another plugin described are none of this one's.
            request.task_paths = Vec::new();
        } else if is_new && kind != ExecutorKind::Wasm {
            bail!("a new executor needs a --task-path, or a --plugin that describes its tasks");
        }
        let granted = !self.grant_http.is_empty()
            || !self.grant_directory.is_empty()
            || !self.grant_env.is_empty();
        if granted || !self.revoke.is_empty() {
            let grants = request.grants.get_or_insert_default();
            add(&mut grants.http, self.grant_http);
            add(&mut grants.directories, self.grant_directory);
            grants.environment.extend(self.grant_env.into_iter().map(|(k, v)| (k, Some(v))));
            self.revoke.iter().try_for_each(|name| revoke(grants, name))?;
        }
        request.url = self.url.or(request.url);
        request.plugin = self.plugin.or(request.plugin);
        request.secret = self.secret;
        request.previous_secret = self.previous_secret;
        request.echoes_task_id = self.echoes_task_id.unwrap_or(request.echoes_task_id);
        request.memory_mib = self.memory_mib.or(request.memory_mib);
        request.concurrency = self.concurrency.or(request.concurrency);
        request.lease_seconds = self.lease_seconds.or(request.lease_seconds);
        request.timeout_seconds = self.timeout.or(request.timeout_seconds);
        request.max_attempts = self.max_attempts.or(request.max_attempts);
        request.paused = self.paused || (request.paused && !self.resume);
        Ok(request)
    }
}

async fn registered(client: &Client, name: &str) -> anyhow::Result<Option<Executor>> {
    match client.get_executor(name).await {
        Ok(executor) => Ok(Some(executor)),
        Err(error) if error.code() == Some(ErrorCode::ExecutorNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The request that leaves an executor as it is. What it does not show, the service has.
fn request_of(executor: Executor) -> ExecutorRequest {
    ExecutorRequest {
        kind: executor.kind,
        task_paths: executor.task_paths,
        url: executor.url,
        secret: None,
        previous_secret: None,
        echoes_task_id: executor.echoes_task_id,
        plugin: executor.plugin,
        memory_mib: executor.memory_mib.map(i64::from),
        grants: executor.grants.map(|granted| Grants {
            http: granted.http,
            directories: granted.directories,
            environment: granted.environment.into_iter().map(|name| (name, None)).collect(),
        }),
        concurrency: executor.concurrency.map(i64::from),
        lease_seconds: Some(executor.lease_seconds.into()),
        timeout_seconds: executor.timeout_seconds,
        max_attempts: executor.max_attempts.map(i64::from),
        backoff: executor.backoff,
        paused: executor.paused,
    }
}

fn add(list: &mut Vec<String>, more: Vec<String>) {
    for entry in more {
        if !list.contains(&entry) {
            list.push(entry);
        }
    }
}

fn revoke(grants: &mut Grants, name: &str) -> anyhow::Result<()> {
    let Grants { http, directories, environment } = grants;
    let before = http.len() + directories.len() + environment.len();
    http.retain(|host| host != name);
    directories.retain(|directory| directory != name);
    environment.remove(name);
    if http.len() + directories.len() + environment.len() == before {
        bail!("{name} is not granted, so that it cannot be revoked");
    }
    Ok(())
}
