//! Whether an HTTP executor does what docs/EXECUTORS.md asks of one: plays the service before it.

mod answers;
mod leases;
mod message;
mod signature;
mod stand_in;
mod suite;

use std::{future::Future, net::SocketAddr, process::ExitCode};

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use self::{
    message::Seal,
    stand_in::StandIn,
    suite::{Checked, Flaw, Suite},
};
use super::make_secret;
use crate::{
    cli::output::Output,
    domain::executor::{CallUrl, Secret},
    entropy::Entropy,
    executor::http,
};

/// Seconds by which a clock may not be wrong.
const HOUR: i64 = 3_600;

#[derive(Args)]
pub(in crate::cli) struct Check {
    /// Address of the executor
    #[arg(value_parser = url)]
    url: CallUrl,
    /// Signing secret of the executor
    #[arg(long, env = "NIGHTSHIFT_SECRET", hide_env_values = true, value_parser = secret)]
    secret: Secret,
    /// Address to listen on for reports of tasks that were answered with 202 [default: a free port
    /// of 127.0.0.1]
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:0",
        hide_default_value = true
    )]
    listen: SocketAddr,
    /// Address at which the executor reaches --listen [default: http:// and the address]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Run only the checks whose names begin with this word, such as cancel
    #[arg(long, value_name = "START", default_value = "", hide_default_value = true)]
    only: String,
    /// Count a check as failed if the executor does not serve the task that it needs
    #[arg(long)]
    strict: bool,
    /// Require the task's id in each answer, as for an executor registered with --echoes-task-id
    #[arg(long)]
    echoes_task_id: bool,
    #[command(flatten)]
    tasks: TaskPaths,
}

/// Which tasks behave as the checks need it.
#[derive(Args)]
struct TaskPaths {
    /// Task that returns [args, kwargs]
    #[arg(long, value_name = "TASK_PATH", default_value = "check.echo")]
    echo: String,
    /// Task that returns null
    #[arg(long, value_name = "TASK_PATH", default_value = "check.null")]
    null: String,
    /// Task that raises an exception with its argument as the message
    #[arg(long, value_name = "TASK_PATH", default_value = "check.fail")]
    fail: String,
    /// Task that fails for good (422), with its argument as the message
    #[arg(long, value_name = "TASK_PATH", default_value = "check.reject")]
    reject: String,
    /// Task that is refused with 503, 429 or 425 and Retry-After
    #[arg(long, value_name = "TASK_PATH", default_value = "check.busy")]
    busy: String,
    /// Task that works for the given seconds within the request, and returns the number
    #[arg(long, value_name = "TASK_PATH", default_value = "check.slow")]
    slow: String,
    /// The same after an answer of 202, with a heartbeat each second
    #[arg(long, value_name = "TASK_PATH", default_value = "check.later")]
    later: String,
}

fn url(text: &str) -> Result<CallUrl, String> {
    text.parse().map_err(|invalid: crate::domain::Invalid| invalid.reason)
}

fn secret(text: &str) -> Result<Secret, String> {
    text.parse().map_err(|invalid: crate::domain::Invalid| invalid.reason)
}

/// How one check came out.
#[derive(Serialize)]
struct Line {
    name: &'static str,
    result: Mark,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Ok,
    Failed,
    Skipped,
}

impl Line {
    fn text(&self) -> String {
        let mark = match self.result {
            Mark::Ok => "ok",
            Mark::Failed => "FAILED",
            Mark::Skipped => "skipped",
        };
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{mark:8} {}{reason}", self.name)
    }
}

/// Runs checks one after the other, and says at once how each came out.
struct Protocol {
    out: Output,
    only: String,
    strict: bool,
    lines: Vec<Line>,
}

impl Protocol {
    async fn check(
        &mut self,
        name: &'static str,
        checking: impl Future<Output = Checked>,
    ) -> anyhow::Result<()> {
        if !name.starts_with(&self.only) {
            return Ok(());
        }
        let (result, reason) = match checking.await {
            Ok(()) => (Mark::Ok, None),
            Err(Flaw::Failed(why)) => (Mark::Failed, Some(why)),
            Err(Flaw::Skipped(why)) if self.strict => (Mark::Failed, Some(why)),
            Err(Flaw::Skipped(why)) => (Mark::Skipped, Some(why)),
            Err(Flaw::Broken(error)) => return Err(error.context(name)),
        };
        let line = Line { name, result, reason };
        if !self.out.json {
            self.out.print(&line, Line::text)?;
        }
        self.lines.push(line);
        Ok(())
    }

    fn count(&self, mark: Mark) -> usize {
        self.lines.iter().filter(|line| line.result == mark).count()
    }

    /// Says how it came out in all.
    fn conclude(self, url: &CallUrl) -> anyhow::Result<ExitCode> {
        ensure!(!self.lines.is_empty(), "no check's name begins with {:?}", self.only);
        let passed = self.count(Mark::Failed) == 0;
        let total = json!({"url": url.as_url().as_str(), "passed": passed, "checks": self.lines});
        self.out.print(&total, |_| {
            let count = |mark| self.count(mark);
            let (ok, failed, skipped) =
                (count(Mark::Ok), count(Mark::Failed), count(Mark::Skipped));
            format!("{ok} ok, {failed} failed, {skipped} skipped")
        })?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Check {
    pub(super) async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let entropy = Entropy::from_system();
        let suite = Suite {
            url: self.url,
            secret: self.secret,
            foreign_secret: suite::unknown_secret(&make_secret(&entropy))?,
            tasks: self.tasks,
            stand_in: StandIn::start(self.listen, self.public_url)?,
            entropy,
            client: http::client()?,
        };
        let mut protocol =
            Protocol { out, only: self.only, strict: self.strict, lines: Vec::new() };
        is_there(&suite).await?;
        check_signatures(&suite, &mut protocol).await?;
        check_answers(&suite, &mut protocol).await?;
        if self.echoes_task_id {
            let name = "answer: the task's id comes back";
            protocol.check(name, answers::the_tasks_id_comes_back(&suite)).await?;
        }
        check_leases(&suite, &mut protocol).await?;
        suite.stand_in.stop().await;
        protocol.conclude(&suite.url)
    }
}

/// Whoever answers 404 to everything would refuse all that is to be refused.
async fn is_there(suite: &Suite) -> anyhow::Result<()> {
    let echo = suite.attempt(&suite.tasks.echo, &json!([]), &json!({}));
    match echo.execute().await {
        Err(Flaw::Broken(error)) => Err(error),
        Err(Flaw::Skipped(why)) => Err(anyhow::anyhow!(why))
            .context("nothing can be checked without a task that returns [args, kwargs]"),
        // Whatever else it answers is judged by the checks.
        Ok(_) | Err(Flaw::Failed(_)) => Ok(()),
    }
}

async fn check_signatures(suite: &Suite, protocol: &mut Protocol) -> anyhow::Result<()> {
    let foreign = &suite.foreign_secret;
    for (name, seal) in [
        ("signature: a right one is taken", Seal::Right),
        ("signature: the second of two is taken", Seal::Second(foreign)),
    ] {
        protocol.check(name, signature::is_taken(suite, seal)).await?;
    }
    for (name, seal) in [
        ("signature: none is refused", Seal::Missing),
        ("signature: one by another secret is refused", Seal::Foreign(foreign)),
        ("signature: one of another body is refused", Seal::OtherBody),
        ("signature: one of another id is refused", Seal::OtherId),
        ("signature: one of an hour ago is refused", Seal::At(-HOUR)),
        ("signature: one of an hour from now is refused", Seal::At(HOUR)),
    ] {
        protocol.check(name, signature::is_refused(suite, seal)).await?;
    }
    let name = "signature: a task.cancel without one is refused";
    protocol.check(name, signature::unsigned_cancel_is_refused(suite)).await?;
    let name = "signature: what is refused is not begun";
    protocol.check(name, signature::what_is_refused_is_not_begun(suite)).await
}

async fn check_answers(suite: &Suite, protocol: &mut Protocol) -> anyhow::Result<()> {
    let name = "answer: arguments come as they were sent";
    protocol.check(name, answers::arguments_come_as_they_were_sent(suite)).await?;
    let name = "answer: unknown fields do no harm";
    protocol.check(name, answers::unknown_fields_do_no_harm(suite)).await?;
    let name = "answer: the same message again is answered alike";
    protocol.check(name, answers::again_is_answered_alike(suite)).await?;
    protocol.check("answer: null", answers::null(suite)).await?;
    let name = "answer: an exception fails, and may be tried again";
    protocol.check(name, answers::an_exception_may_be_tried_again(suite)).await?;
    let name = "answer: a refusal fails for good";
    protocol.check(name, answers::a_refusal_is_for_good(suite)).await?;
    protocol.check("answer: not now, and when", answers::not_now_and_when(suite)).await?;
    let name = "answer: a path that nobody serves is refused";
    protocol.check(name, answers::an_unknown_path_is_refused(suite)).await?;
    let name = "answer: work in the request";
    protocol.check(name, answers::work_in_the_request(suite)).await
}

async fn check_leases(suite: &Suite, protocol: &mut Protocol) -> anyhow::Result<()> {
    let name = "accepted: heartbeats, and one end";
    protocol.check(name, leases::heartbeats_and_one_end(suite)).await?;
    let name = "accepted: the same message again is one piece of work";
    protocol.check(name, leases::again_is_one_piece_of_work(suite)).await?;
    let name = "cancel: work in the request stops";
    protocol.check(name, leases::request_stops(suite)).await?;
    let name = "cancel: the same message again stops, too";
    protocol.check(name, leases::again_stops_too(suite)).await?;
    let name = "cancel: accepted work stops";
    protocol.check(name, leases::accepted_work_stops(suite)).await?;
    let name = "late: nothing after a lost lease";
    protocol.check(name, leases::nothing_after_a_lost_lease(suite)).await?;
    let name = "late: nothing after the deadline";
    protocol.check(name, leases::nothing_after_the_deadline(suite)).await
}
