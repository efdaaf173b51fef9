//! Shows the whole way once: a service, an executor in Python, a plugin, and their tasks.

use std::{path::Path, process::ExitCode, process::Stdio, time::Duration};

use anyhow::Context;
use clap::Args;
use nightshift_client::{
    Client, EnqueueOptions,
    types::{ExecutorKind, ExecutorRequest, Json, Task, TaskRequest, TaskState, TaskStatus},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::sleep,
};

use super::{executor::make_secret, output::say};
use crate::{
    app::{App, Outside},
    config::{Bind, Config},
    entropy::Entropy,
    shutdown::StopSignals,
};

/// The executor and its tasks, so that the demo needs no other file.
const EXECUTOR: [(&str, &str); 2] = [
    ("executor.py", include_str!("../../../examples/executors/python/executor.py")),
    ("demo.py", include_str!("../../../examples/executors/python/demo.py")),
];
/// The plugin, made of examples/plugin.wat.
const PLUGIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/plugin.wasm"));
/// How often a task's state is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(50);
/// How long the whole demo may take.
const DEMO_TIMEOUT: Duration = Duration::from_mins(1);

/// Run a service, an executor in Python and a plugin, and show seven tasks.
#[derive(Args)]
pub(super) struct Demo {
    /// Address to listen on [default: a free port of 127.0.0.1]
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:0",
        hide_default_value = true
    )]
    bind: Bind,
    /// Stop when all tasks have ended; exit status 0 if each ended as expected
    #[arg(long)]
    ci: bool,
}

/// One task of the demo and how it should end.
struct Act {
    task_path: &'static str,
    args: &'static str,
    kwargs: &'static str,
    ends: TaskStatus,
    returns: Option<&'static str>,
    cancel_while_running: bool,
}

const ACTS: [Act; 7] = [
    Act {
        task_path: "demo.tasks.super_complicated_task",
        args: "[7]",
        kwargs: r#"{"y": 40}"#,
        ends: TaskStatus::Successful,
        returns: Some("6366805760909027985741435139224001"),
        cancel_while_running: false,
    },
    Act {
        task_path: "demo.tasks.send_mail_to_co_investigators",
        args: r#"[["ada@example.org", "vera@example.org", "cecilia@example.org"]]"#,
        kwargs: "{}",
        ends: TaskStatus::Successful,
        returns: Some(r#"{"sent": 3}"#),
        cancel_while_running: false,
    },
    Act {
        task_path: "demo.tasks.reduce_broken_image",
        args: r#"["m31.fits"]"#,
        kwargs: "{}",
        ends: TaskStatus::Failed,
        returns: None,
        cancel_while_running: false,
    },
    Act {
        task_path: "demo.tasks.stack_all_images",
        args: "[]",
        kwargs: "{}",
        ends: TaskStatus::Cancelled,
        returns: None,
        cancel_while_running: true,
    },
    Act {
        task_path: "demo.tasks.forced_photometry",
        args: r#"["SN 2026abc"]"#,
        kwargs: "{}",
        ends: TaskStatus::Successful,
        returns: Some("[[60000.5, 17.25], [60001.5, 17.5]]"),
        cancel_while_running: false,
    },
    Act {
        task_path: "demo.plugin.count_primes",
        args: "[100000]",
        kwargs: "{}",
        ends: TaskStatus::Successful,
        returns: Some("9592"),
        cancel_while_running: false,
    },
    Act {
        task_path: "demo.plugin.never_ends",
        args: "[]",
        kwargs: "{}",
        ends: TaskStatus::Failed,
        returns: None,
        cancel_while_running: false,
    },
];

impl Demo {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut signals = StopSignals::listen()?;
        let folder = tempfile::tempdir().context("there is no room for the demo's database")?;
        let config = Config {
            bind: self.bind,
            database_url: format!("sqlite://{}", folder.path().join("demo.db").display()),
            shutdown_grace_seconds: 1,
            plugin_cache: Some(folder.path().join("plugins")),
            ..Config::default()
        };
        let app = App::start(&config, Outside::real(&config)?)?;
        let server = app.address().server("http");
        say(&format!("nightshift listens on {server}, with a fresh SQLite file"))?;
        let client = Client::new(&server)?;
        let secret = make_secret(&Entropy::from_system());
        let (mut executor, port) = start_executor(folder.path(), &secret).await?;
        register(&client, port, secret).await?;
        install(&client).await?;
        let played = tokio::select! {
            played = tokio::time::timeout(DEMO_TIMEOUT, play(&client)) => {
                played.context("the demo took too long")??
            }
            () = signals.next() => false,
        };
        if !self.ci && played {
            say(&how_to_go_on(&server))?;
            signals.next().await;
        }
        executor.kill().await.context("the executor did not stop")?;
        app.stop().await?;
        Ok(if played { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn start_executor(folder: &Path, secret: &str) -> anyhow::Result<(Child, u16)> {
    for (name, text) in EXECUTOR {
        std::fs::write(folder.join(name), text)?;
    }
    let mut child = Command::new("python3")
        .arg(folder.join("demo.py"))
        .env("NIGHTSHIFT_SECRET", secret)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("python3 is needed for the demo's executor")?;
    let stdout = child.stdout.take().context("the executor has no output")?;
    let port = BufReader::new(stdout).lines().next_line().await?;
    let port = port.and_then(|port| port.parse().ok()).context("the executor did not start")?;
    Ok((child, port))
}

async fn register(client: &Client, port: u16, secret: String) -> anyhow::Result<()> {
    let request = ExecutorRequest {
        kind: ExecutorKind::Http,
        task_paths: vec!["demo.tasks.*".to_owned()],
        url: Some(format!("http://127.0.0.1:{port}/")),
        secret: Some(secret),
        max_attempts: Some(1),
        ..ExecutorRequest::default()
    };
    let executor = client.put_executor("demo", &request).await?;
    say(&format!(
        "examples/executors/python listens on port {port}, registered as {:?} for {}",
        executor.name,
        executor.task_paths.join(" "),
    ))
}

async fn install(client: &Client) -> anyhow::Result<()> {
    let plugin = client.put_plugin("primes", PLUGIN.to_vec()).await?;
    say(&format!(
        "examples/plugin.wat is installed as plugin {:?}, and runs inside the service\n",
        plugin.name
    ))
}

/// Plays all acts at once and says whether each ended as it should.
async fn play(client: &Client) -> anyhow::Result<bool> {
    let acts = ACTS.iter().map(|act| play_one(client, act));
    let ends = futures_util::future::try_join_all(acts).await?;
    let good = ends.iter().filter(|good| **good).count();
    say(&format!("\n{good} of {} tasks ended as they should", ACTS.len()))?;
    Ok(good == ACTS.len())
}

async fn play_one(client: &Client, act: &Act) -> anyhow::Result<bool> {
    let request = TaskRequest {
        args: Some(act.args.parse()?),
        kwargs: Some(act.kwargs.parse()?),
        ..TaskRequest::new(act.task_path)
    };
    let id = client.create_task(&request, &EnqueueOptions::default()).await?.task.id;
    let name = act.task_path.rsplit('.').next().unwrap_or_default();
    let mut seen: Option<TaskState> = None;
    let end = loop {
        let state = client.get_task_status(id).await?;
        for line in news(seen.as_ref(), &state) {
            say(&format!("{name:30} {line}"))?;
        }
        if state.status.is_finished() {
            break client.get_task(id, None).await?;
        }
        let began = state.status == TaskStatus::Running;
        if began && act.cancel_while_running && state.cancel_requested_at.is_none() {
            client.cancel_task(id, false).await?;
        }
        seen = Some(state);
        sleep(LOOK_PERIOD).await;
    };
    say(&format!("{name:30} {}", ending(&end)))?;
    let returned = end.return_value.as_ref().map(Json::as_str);
    Ok(end.status == act.ends && returned == act.returns)
}

/// What is to be told of a task since it was last looked at.
fn news(before: Option<&TaskState>, now: &TaskState) -> Vec<String> {
    let mut lines = Vec::new();
    let first = before.is_none();
    if before.map(|state| state.status) != Some(now.status) {
        // What lay between two looks is in the record.
        if first && now.status != TaskStatus::Ready {
            lines.push(TaskStatus::Ready.to_string());
        }
        let ran = before.is_some_and(|state| state.status == TaskStatus::Running);
        if now.status.is_finished() && !ran && now.started_at.is_some() {
            lines.push(TaskStatus::Running.to_string());
        }
        lines.push(now.status.to_string());
    }
    if let Some(progress) = &now.progress
        && before.and_then(|state| state.progress.as_ref()) != Some(progress)
    {
        let percent = progress.fraction.unwrap_or(0.0) * 100.0;
        let message = progress.message.as_deref().unwrap_or("");
        lines.push(format!("{} {percent:.0} % {message}", now.status));
    }
    lines
}

fn ending(task: &Task) -> String {
    if let Some(value) = &task.return_value {
        return format!("  returned {value}");
    }
    let error = task.errors.last();
    let class = error.and_then(|error| error.exception_class_path.as_deref()).unwrap_or("");
    let message = error.map_or("", |error| error.message.as_str());
    let traceback = error.and_then(|error| error.traceback.as_deref());
    let last = traceback.and_then(|text| text.trim_end().lines().last());
    format!("  {}", last.map_or_else(|| format!("{class}{message}"), str::to_owned))
}

fn how_to_go_on(server: &str) -> String {
    format!(
        r#"
Go on by hand, until Ctrl-C:

  curl {server}/tasks -H 'Content-Type: application/json' \
       -d '{{"task_path": "demo.tasks.super_complicated_task", "args": [3]}}'
  curl {server}/tasks?limit=5
  curl {server}/tasks/ID/result?wait=10
  curl -X POST {server}/tasks/ID/cancel

The API for people: {server}/docs/"#
    )
}
