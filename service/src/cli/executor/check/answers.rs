//! Whether the executor's answers mean what they are to mean.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    message::Seal,
    suite::{Checked, Flaw, Heard, Suite, failed},
};
use crate::{
    domain::{
        attempt::{Failure, Outcome},
        json::JsonText,
    },
    executor::{Answer, http::TASK_ID_HEADER},
};

/// What a failing task is to fail with.
const MESSAGE: &str = "m31.fits: no such image";
/// How long the work in a request lasts.
const WORK: Duration = Duration::from_millis(200);

/// Values that are spoilt by a wrong encoding or by being read as something else, and that each
/// language's JSON can hold: no whole number over 2^53, no 1.0.
fn arguments() -> (Value, Value) {
    let args = json!([
        "ü – 🔭 \"\\/\n\t\u{0}</script>",
        "2026-11-25T07:33:26Z",
        "",
        "007",
        0,
        -1,
        9_007_199_254_740_991_i64,
        0.1,
        5e-7,
        1e300,
        true,
        false,
        null,
        [],
        {},
        [[1, [2, {"deep": [null, {"er": "x"}]}]]]
    ]);
    let kwargs = json!({
        "name": "NGC 224",
        "ångström": 6562.8,
        "flags": {"": null, "a b": [1, 2], "1": "one"}
    });
    (args, kwargs)
}

fn same(value: &JsonText, expected: &Value) -> Checked {
    let got: Value = serde_json::from_str(value.as_str()).map_err(anyhow::Error::from)?;
    if got == *expected {
        return Ok(());
    }
    failed(format!("was to return {expected}, and returned {got}"))
}

pub(super) async fn arguments_come_as_they_were_sent(suite: &Suite) -> Checked {
    let (args, kwargs) = arguments();
    let heard = suite.attempt(&suite.tasks.echo, &args, &kwargs).execute().await?;
    same(&heard.value()?, &json!([args, kwargs]))
}

pub(super) async fn the_tasks_id_comes_back(suite: &Suite) -> Checked {
    let echo = suite.attempt(&suite.tasks.echo, &json!([]), &json!({}));
    let id = echo.data.task_id.to_string();
    match echo.execute().await?.task_id {
        Some(echoed) if echoed.eq_ignore_ascii_case(&id) => Ok(()),
        Some(other) => failed(format!("was to say {TASK_ID_HEADER}: {id}, and says {other:?}")),
        None => failed(format!("was to say {TASK_ID_HEADER}: {id}, and has no such header")),
    }
}

pub(super) async fn unknown_fields_do_no_harm(suite: &Suite) -> Checked {
    let echo = suite.attempt(&suite.tasks.echo, &json!([1]), &json!({}));
    let message = echo.message()?.with_unknown_fields()?;
    same(&suite.send(message, Seal::Right).await?.value()?, &json!([[1], {}]))
}

/// Whatever is answered the second time is what the service keeps.
pub(super) async fn again_is_answered_alike(suite: &Suite) -> Checked {
    let echo = suite.attempt(&suite.tasks.echo, &json!(["again"]), &json!({}));
    for _ in 0..2 {
        same(&echo.execute().await?.value()?, &json!([["again"], {}]))?;
    }
    Ok(())
}

pub(super) async fn null(suite: &Suite) -> Checked {
    let heard = suite.attempt(&suite.tasks.null, &json!([]), &json!({})).execute().await?;
    same(&heard.value()?, &Value::Null)
}

pub(super) async fn an_exception_may_be_tried_again(suite: &Suite) -> Checked {
    failure(suite, &suite.tasks.fail, true).await
}

pub(super) async fn a_refusal_is_for_good(suite: &Suite) -> Checked {
    failure(suite, &suite.tasks.reject, false).await
}

async fn failure(suite: &Suite, path: &str, retryable: bool) -> Checked {
    let heard = suite.attempt(path, &json!([MESSAGE]), &json!({})).execute().await?;
    match &heard.answer {
        Answer::Ended(Outcome::Failed(failure)) if is_as_raised(failure, retryable) => Ok(()),
        Answer::Accepted | Answer::Ended(_) => {
            let again = if retryable { "to be tried again" } else { "for good" };
            failed(format!("was to fail, {again}, with {MESSAGE:?}, and {}", heard.words()))
        }
    }
}

fn is_as_raised(failure: &Failure, retryable: bool) -> bool {
    failure.retryable == retryable && failure.message == MESSAGE
}

pub(super) async fn not_now_and_when(suite: &Suite) -> Checked {
    let heard = suite.attempt(&suite.tasks.busy, &json!([]), &json!({})).execute().await?;
    match &heard.answer {
        Answer::Ended(Outcome::Undelivered { retry_after: Some(_), .. }) => Ok(()),
        Answer::Ended(Outcome::Undelivered { retry_after: None, .. }) => {
            failed(format!("{}, but Retry-After says neither seconds nor a date", heard.words()))
        }
        Answer::Accepted | Answer::Ended(_) => {
            failed(format!("was to answer 503, 429 or 425, and {}", heard.words()))
        }
    }
}

pub(super) async fn an_unknown_path_is_refused(suite: &Suite) -> Checked {
    let path = format!("{}_that_nobody_serves", suite.tasks.echo);
    let heard = suite.attempt(&path, &json!([]), &json!({})).send(Seal::Right).await?;
    if heard.status.is_client_error() && is_failure(&heard) {
        return Ok(());
    }
    failed(format!("was to answer 404, and {}", heard.words()))
}

fn is_failure(heard: &Heard) -> bool {
    matches!(heard.answer, Answer::Ended(Outcome::Failed(_)))
}

/// Without it, a task that always fails would pass for one that was cancelled.
pub(super) async fn work_in_the_request(suite: &Suite) -> Checked {
    let heard = suite.lasting(&suite.tasks.slow, WORK).execute().await?;
    if let Answer::Accepted = heard.answer {
        return Err(Flaw::Skipped(format!("{} is accepted with 202", suite.tasks.slow)));
    }
    same(&heard.value()?, &json!(WORK.as_secs_f64()))
}
