//! Whether the executor knows who speaks.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{
    message::{Message, Seal},
    suite::{Checked, Flaw, Heard, Suite, failed, now},
};

/// How long work would last that is begun although its message was refused.
const SHORT_WORK: Duration = Duration::from_millis(200);
/// When such work would have been heard of.
const SILENCE: Duration = Duration::from_millis(1_200);

/// A message that is to be taken.
pub(super) async fn is_taken(suite: &Suite, seal: Seal<'_>) -> Checked {
    let echo = suite.attempt(&suite.tasks.echo, &json!(["signed"]), &json!({}));
    echo.send(seal).await?.value().map(drop)
}

/// A message that is not to be taken.
pub(super) async fn is_refused(suite: &Suite, seal: Seal<'_>) -> Checked {
    let echo = suite.attempt(&suite.tasks.echo, &json!(["forged"]), &json!({}));
    refused(&echo.send(seal).await?)
}

pub(super) async fn unsigned_cancel_is_refused(suite: &Suite) -> Checked {
    let attempt = suite.attempt(&suite.tasks.echo, &json!([]), &json!({}));
    let message = Message::cancel(&attempt.data, now().into())?;
    refused(&suite.send(message, Seal::Missing).await?)
}

/// Work that reports by itself shows that it was begun, whatever the answer said.
pub(super) async fn what_is_refused_is_not_begun(suite: &Suite) -> Checked {
    let path = &suite.tasks.later;
    suite.lasting(path, Duration::ZERO).execute().await?;
    let foreign = &suite.foreign_secret;
    let mut tokens = Vec::new();
    for seal in [Seal::Missing, Seal::Foreign(foreign), Seal::OtherBody, Seal::At(-3_600)] {
        let forged = suite.lasting(path, SHORT_WORK);
        // The answer is another check's.
        forged.send(seal).await?;
        tokens.push(forged.token().to_owned());
    }
    let until = Instant::now() + SILENCE;
    for token in tokens {
        let lease = suite.stand_in.wait(&token, until, |lease| !lease.is_silent()).await?;
        if !lease.is_silent() {
            return failed("works on a message whose signature it should have refused");
        }
    }
    Ok(())
}

fn refused(heard: &Heard) -> Result<(), Flaw> {
    match heard.status.as_u16() {
        // Those would be sent again.
        408 | 425 | 429 => {}
        400..=499 => return Ok(()),
        _ => {}
    }
    failed(format!("was to refuse with 401 or another 4xx, and {}", heard.words()))
}
