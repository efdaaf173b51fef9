//! The command line.
#![expect(clippy::doc_markdown, reason = "clap shows these comments on a terminal, as they are")]

mod backup;
mod completions;
mod copy;
mod demo;
mod doctor;
mod enqueue;
mod executor;
mod health;
mod man;
mod migrate;
mod openapi;
mod output;
mod plugin;
mod queue;
mod serve;
mod service;
mod tasks;
mod time;
mod token;
mod top;
mod visible;
mod waiting;
mod watch;
mod worker;

use std::{path::PathBuf, process::ExitCode};

use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use nightshift_client::{Client, Retry};

use self::{
    output::{NOBODY_READS, NobodyReads, Output},
    visible::visible_lines,
};
use crate::{
    plugin::{Bounds, compile_main},
    telemetry,
};

/// Where a service listens that nobody told otherwise.
const SERVER: &str = "http://127.0.0.1:8700";

/// Where help texts list the options of all commands, behind a command's own.
const GLOBAL_OPTIONS: &str = "Global options";
/// Commands that never speak to a running service. `doctor` does, if one runs.
const WITHOUT_SERVICE: [&[&str]; 12] = [
    &["serve"],
    &["demo"],
    &["migrate"],
    &["copy"],
    &["backup"],
    &["openapi"],
    &["completions"],
    &["man"],
    &["executor", "check"],
    &["plugin", "check"],
    &["plugin", "new"],
    &["plugin", "run"],
];

/// Exit status of a command that could not do its work.
const FAILURE: u8 = 2;
/// How the service calls itself to compile a plugin. It is none of the commands, or shells would offer
/// it to people.
const COMPILE_PLUGIN: &str = "compile-plugin";

/// Background tasks for any web stack over plain HTTP.
///
/// Exit status: 0 the task succeeded, 1 it failed or was cancelled, 2 the command could not do its
/// work, 3 the task has not ended, 130 Ctrl-C ended the wait for it, 141 the reader of its output
/// closed the pipe.
#[derive(Parser)]
#[command(name = "nightshift", version, about, max_term_width = 100)]
struct Cli {
    /// Address of the service
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL_OPTIONS,
        env = "NIGHTSHIFT_SERVER",
        default_value = SERVER,
        value_name = "URL"
    )]
    server: String,
    /// Access token. Prefer NIGHTSHIFT_TOKEN: other users of the machine can see command-line
    /// arguments
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL_OPTIONS,
        env = "NIGHTSHIFT_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<String>,
    /// Print JSON for programs
    #[arg(long, global = true, help_heading = GLOBAL_OPTIONS)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service
    Serve(serve::Serve),
    /// Run a service, an executor in Python and a plugin, and show seven tasks
    Demo(demo::Demo),
    /// Check settings, database, disk, service and executors
    Doctor(doctor::Doctor),
    /// Bring the database's schema up to date
    Migrate(migrate::Migrate),
    /// Copy everything into an empty database of either engine; stop the service before
    Copy(copy::Copy),
    /// Copy the SQLite database to a new file; the service may run meanwhile
    Backup(backup::Backup),
    /// Print the OpenAPI document
    Openapi(openapi::OpenApi),
    /// Print the completion script of a shell
    Completions(completions::Completions),
    /// Write manual pages of all commands into a directory
    Man(man::Man),
    /// Check whether the service is ready: exit status 0 if it is, else 1
    Health(health::Health),
    /// Lease tasks of an executor and run a command for each
    Worker(worker::Worker),
    #[command(flatten)]
    Client(ClientCommand),
}

/// Compile a component from standard input, for the service itself.
#[derive(Parser)]
struct CompilePlugin {
    /// Where machine code goes
    cache: PathBuf,
    /// Processor time that it may take
    seconds: u32,
    /// Memory that it may take
    mib: u32,
}

/// Commands that ask a running service.
#[derive(Subcommand)]
enum ClientCommand {
    /// Enqueue a task
    Enqueue(enqueue::Enqueue),
    /// Show a task
    Get(tasks::OneWaiting),
    /// Show a task's result, or its errors
    Result(tasks::OneWaiting),
    /// Cancel tasks
    Cancel(tasks::Cancel),
    /// Make failed or cancelled tasks ready again
    Retry(tasks::Several),
    /// Delete finished tasks
    #[command(aliases = ["remove", "revoke"])]
    Delete(tasks::Several),
    /// Explain why a task waits, runs or has ended
    Explain(tasks::One),
    /// Show a task's log lines
    Logs(tasks::One),
    /// Follow a task until it ends, or follow all tasks
    Watch(watch::Watch),
    /// Show queues and running tasks, and update them as they change
    Top(top::Top),
    /// List tasks, newest first
    List(tasks::List),
    /// Register, change, list and delete executors
    #[command(subcommand)]
    Executor(executor::ExecutorCommand),
    /// Install, list, try and delete plugins
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Show, pause, resume and limit queues
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Create, list and delete tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// List administrative changes and the tokens that made them, newest first
    Audit(token::Audit),
    /// Count tasks by status and queue
    Stats,
    /// Delete finished tasks that are older than the retention time
    Prune(service::Prune),
}

/// Where the settings are.
#[derive(clap::Args)]
struct ConfigFile {
    /// File to read settings from, instead of nightshift.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Which database, for commands that need no other setting.
#[derive(clap::Args, serde::Serialize)]
struct DatabaseFlag {
    /// Database: sqlite://PATH or postgres://... [default: sqlite://nightshift.db]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    database_url: Option<String>,
}

/// Runs the command that the program was started with.
pub fn main() -> ExitCode {
    // Before there are threads, which would take of the little memory that it may use.
    if std::env::args_os().nth(1).is_some_and(|first| first == COMPILE_PLUGIN) {
        let CompilePlugin { cache, seconds, mib } =
            CompilePlugin::parse_from(std::env::args_os().skip(1));
        return compile_main(&cache, Bounds { seconds, mib }).unwrap_or_else(|error| fail(&error));
    }
    let cli = match Cli::from_arg_matches(&command().get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let code = runtime.block_on(run(cli)).unwrap_or_else(|error| fail(&error));
    // Not for a thread that waits for what may never come: all that counts has been waited for.
    runtime.shutdown_background();
    telemetry::flush();
    code
}

/// The whole command line. A command that needs no service neither shows nor takes `--server` and
/// `--token`.
fn command() -> clap::Command {
    let refuse = |path: &[&str]| {
        let message = format!("`nightshift {}` does not speak to a service", path.join(" "));
        move |_: &str| Err::<String, _>(message.clone())
    };
    WITHOUT_SERVICE.iter().fold(Cli::command(), |all, path| {
        let hidden = |id| Arg::new(id).long(id).hide(true).value_parser(refuse(path));
        change(all, path, &|one| one.args([hidden("server"), hidden("token")]))
    })
}

/// Changes the command at this path.
fn change(
    command: clap::Command,
    path: &[&str],
    with: &dyn Fn(clap::Command) -> clap::Command,
) -> clap::Command {
    match path {
        [] => with(command),
        [first, rest @ ..] => command.mut_subcommand(first, |one| change(one, rest, with)),
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(serve) => serve.run().await,
        Command::Demo(demo) => demo.run().await,
        Command::Doctor(doctor) => {
            doctor.run(&cli.server, cli.token.as_deref(), Output { json: cli.json }).await
        }
        Command::Migrate(migrate) => migrate.run(Output { json: cli.json }),
        Command::Copy(copy) => copy.run(Output { json: cli.json }),
        Command::Backup(backup) => backup.run(Output { json: cli.json }),
        Command::Openapi(openapi) => openapi.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
        Command::Health(health) => Ok(health.run(&cli.server, Output { json: cli.json }).await),
        Command::Worker(worker) => {
            worker.run(client(&cli.server, cli.token.as_deref())?, cli.server).await
        }
        Command::Client(command) => {
            let client = client(&cli.server, cli.token.as_deref())?;
            ask(command, &client, Output { json: cli.json }).await
        }
    }
}

/// Who waits at a prompt is told at once that the service is away.
fn client(server: &str, token: Option<&str>) -> nightshift_client::Result<Client> {
    let client = Client::new(server)?.with_retry(Retry::never());
    match token.filter(|token| !token.is_empty()) {
        Some(token) => client.with_token(token),
        None => Ok(client),
    }
}

async fn ask(command: ClientCommand, client: &Client, out: Output) -> anyhow::Result<ExitCode> {
    match command {
        ClientCommand::Enqueue(enqueue) => enqueue.run(client, out).await,
        ClientCommand::Get(one) => one.get(client, out).await,
        ClientCommand::Result(one) => one.result(client, out).await,
        ClientCommand::Cancel(cancel) => cancel.run(client, out).await,
        ClientCommand::Retry(several) => several.retry(client, out).await,
        ClientCommand::Delete(several) => several.delete(client, out).await,
        ClientCommand::Explain(one) => one.explain(client, out).await,
        ClientCommand::Logs(one) => one.logs(client, out).await,
        ClientCommand::Watch(watch) => watch.run(client, out).await,
        ClientCommand::Top(top) => top.run(client, out).await,
        ClientCommand::List(list) => list.run(client, out).await,
        ClientCommand::Executor(command) => command.run(client, out).await,
        ClientCommand::Plugin(command) => command.run(client, out).await,
        ClientCommand::Queue(command) => command.run(client, out).await,
        ClientCommand::Token(command) => command.run(client, out).await,
        ClientCommand::Audit(audit) => audit.run(client, out).await,
        ClientCommand::Stats => service::stats(client, out).await,
        ClientCommand::Prune(prune) => prune.run(client, out).await,
    }
}

/// Says on standard error what to look at before it is too late.
fn warn(sentence: Option<String>) {
    if let Some(sentence) = sentence {
        telemetry::print(&format!("warning: {}", visible_lines(&sentence)));
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    if error.is::<NobodyReads>() {
        return ExitCode::from(NOBODY_READS);
    }
    telemetry::print(&format!("error: {}", visible_lines(&format!("{error:#}"))));
    ExitCode::from(FAILURE)
}
