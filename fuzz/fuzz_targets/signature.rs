//! Signed calls of HTTP executors: what is not signed is refused, whatever was changed of it.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use nightshift_client::webhook::{Message, Verifier, VerifyError};
use serde_json::value::RawValue;
use standardwebhooks::Webhook;

const SECRETS: [&str; 2] =
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];
static SIGNERS: LazyLock<[Webhook; 2]> =
    LazyLock::new(|| SECRETS.map(|secret| Webhook::new(secret).unwrap()));
static VERIFIER: LazyLock<Verifier> =
    LazyLock::new(|| Verifier::new(SECRETS[0]).and_then(|first| first.or(SECRETS[1])).unwrap());

/// How far a call's time may be from now; half a minute to either side is left to this machine.
const TAKEN_SECONDS: u64 = 270;
const REFUSED_SECONDS: u64 = 330;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Secret(&'a str),
    /// From somebody who does not know the secret.
    Foreign(Option<&'a str>, Option<&'a str>, Option<&'a str>, &'a [u8]),
    /// Signed, then changed at one byte.
    Signed {
        call: Signed<'a>,
        part: Part,
        at: usize,
        flip: u8,
    },
    /// A message as the service makes it, with these arguments.
    Message {
        args: &'a str,
        second: bool,
    },
}

#[derive(Arbitrary, Debug)]
struct Signed<'a> {
    id: &'a str,
    seconds_ago: i16,
    second: bool,
    /// Another signature before the right one.
    before: &'a str,
    body: &'a [u8],
}

#[derive(Arbitrary, Debug)]
enum Part {
    Nothing,
    Id,
    Timestamp,
    Signature,
    Body,
}

struct Call {
    id: String,
    timestamp: String,
    signature: String,
    body: Vec<u8>,
}

impl Call {
    fn verify(&self) -> Result<Message, VerifyError> {
        VERIFIER.verify(&self.body, |name| match name {
            "webhook-id" => Some(self.id.as_str()),
            "webhook-timestamp" => Some(&self.timestamp),
            "webhook-signature" => Some(&self.signature),
            other => panic!("{other} is no header of Standard Webhooks"),
        })
    }
}

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Secret(secret) => {
            if Verifier::new(secret).is_ok() {
                let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret));
                assert!(key.is_ok_and(|key| key.len() >= 24), "{secret}");
            }
        }
        Input::Foreign(id, timestamp, signature, body) => {
            let answer = VERIFIER.verify(body, |name| match name {
                "webhook-id" => id,
                "webhook-timestamp" => timestamp,
                _ => signature,
            });
            check_refused(answer);
        }
        Input::Signed { call, part, at, flip } => signed(call, &part, at, flip),
        Input::Message { args, second } => message(args, second),
    }
});

/// None of what is said of messages that are signed.
fn check_refused(answer: Result<Message, VerifyError>) {
    match answer {
        Err(VerifyError::Header(_) | VerifyError::Time | VerifyError::Signature) => {}
        other => panic!("{other:?}"),
    }
}

fn sign(id: &str, seconds_ago: i64, second: bool, body: &[u8]) -> Option<Call> {
    let timestamp = Timestamp::now().as_second() - seconds_ago;
    let signature = SIGNERS[usize::from(second)].sign(id, timestamp, body).ok()?;
    let (id, timestamp) = (id.to_owned(), timestamp.to_string());
    Some(Call { id, timestamp, signature, body: body.to_owned() })
}

fn signed(signed: Signed<'_>, part: &Part, at: usize, flip: u8) {
    let Signed { id, seconds_ago, second, before, body } = signed;
    let is_header = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !is_header(id) || !is_header(before) {
        return;
    }
    // Only text is signed.
    let Some(mut call) = sign(id, seconds_ago.into(), second, body) else {
        return;
    };
    call.signature = format!("{before} {}", call.signature);
    let away = u64::from(seconds_ago.unsigned_abs());
    if changed(&mut call, part, at, flip, before.len() + 1) || away > REFUSED_SECONDS {
        return check_refused(call.verify());
    }
    if away <= TAKEN_SECONDS {
        match call.verify() {
            Ok(_) | Err(VerifyError::Unreadable(_) | VerifyError::Type(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Changes one byte; of the signatures only of the right one.
fn changed(call: &mut Call, part: &Part, at: usize, flip: u8, right: usize) -> bool {
    if let Part::Body = part {
        return flip_byte(&mut call.body, at, flip);
    }
    let (text, from) = match part {
        Part::Id => (&mut call.id, 0),
        Part::Timestamp => (&mut call.timestamp, 0),
        Part::Signature => (&mut call.signature, right),
        Part::Nothing | Part::Body => return false,
    };
    let mut bytes = std::mem::take(text).into_bytes();
    // Headers are ASCII.
    let done = flip_byte(&mut bytes[from..], at, flip & 0x7F);
    *text = String::from_utf8(bytes).expect("ASCII stays ASCII");
    done
}

fn flip_byte(bytes: &mut [u8], at: usize, flip: u8) -> bool {
    let Some(at) = at.checked_rem(bytes.len()) else {
        return false;
    };
    bytes[at] ^= flip;
    flip != 0
}

fn message(args: &str, second: bool) {
    // As the service would have accepted them.
    if !args.starts_with('[') || serde_json::from_str::<&RawValue>(args).is_err() {
        return;
    }
    let args = args.trim_end();
    let body = format!(
        r#"{{"type":"task.execute","timestamp":"2026-01-01T00:00:00.000000Z","data":{{
        "task_id":"019ab5e0-0000-7000-8000-000000000000","task_path":"a","args":{args},"kwargs":{{}},
        "attempt":1,"max_attempts":3,"queue_name":"default","priority":0,"labels":{{}},
        "enqueued_at":"2026-01-01T00:00:00.000000Z","deadline":"2026-01-01T00:05:00.000000Z",
        "lease":{{"token":"t","url":"http://localhost/leases/t"}}}}}}"#
    );
    let call = sign("019ab5e0", 0, second, body.as_bytes()).expect("it is text");
    match call.verify() {
        Ok(Message::Execute(message)) => assert_eq!(message.data.args.as_str(), args),
        other => panic!("{other:?}"),
    }
}
