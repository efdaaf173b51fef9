//! Which calls an executor obeys.

use std::collections::HashMap;

use nightshift_client::webhook::{Message, Verifier, VerifyError};
use standardwebhooks::Webhook;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const CANCEL: &str = r#"{"type":"task.cancel","timestamp":"2026-11-26T07:00:00.000000Z",
    "data":{"task_id":"01a216c3-abef-74d8-a978-cf1b01ef1ab1","attempt":2,
    "lease":{"token":"t","url":"http://127.0.0.1/leases/t"}}}"#;

struct Call {
    headers: HashMap<&'static str, String>,
    body: String,
}

impl Call {
    /// Signed so many seconds from now.
    fn signed(secrets: &[&str], seconds: i64, body: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the library has a clock of its own")]
        let at = jiff::Timestamp::now().as_second() + seconds;
        let sign = |secret| Webhook::new(secret).unwrap().sign("id", at, body.as_bytes()).unwrap();
        let signatures: Vec<String> = secrets.iter().map(|secret| sign(secret)).collect();
        let headers = HashMap::from([
            ("webhook-id", "id".to_owned()),
            ("webhook-timestamp", at.to_string()),
            ("webhook-signature", signatures.join(" ")),
        ]);
        Self { headers, body: body.to_owned() }
    }

    fn verified(&self, verifier: &Verifier) -> Result<Message, VerifyError> {
        verifier.verify(self.body.as_bytes(), |name| self.headers.get(name).map(String::as_str))
    }
}

#[test]
fn a_signed_call_is_a_typed_message() {
    let call = Call::signed(&[SECRET], 0, CANCEL);
    let Ok(Message::Cancel(message)) = call.verified(&Verifier::new(SECRET).unwrap()) else {
        panic!("a cancel is one");
    };
    assert_eq!(message.data.attempt, 2);
}

#[test]
fn either_secret_will_do_on_either_side() {
    let both = Verifier::new(SECRET).unwrap().or(OTHER).unwrap();
    for secrets in [&[SECRET][..], &[OTHER], &[OTHER, SECRET]] {
        let call = Call::signed(secrets, 0, CANCEL);
        call.verified(&both).unwrap();
        let knows_one = Verifier::new(SECRET).unwrap();
        assert_eq!(call.verified(&knows_one).is_ok(), secrets.contains(&SECRET));
    }
}

#[test]
fn what_is_forged_old_or_incomplete_is_refused() {
    let verifier = Verifier::new(SECRET).unwrap();
    let mut call = Call::signed(&[SECRET], 0, CANCEL);
    call.body = call.body.replace("\"attempt\":2", "\"attempt\":3");
    assert!(matches!(call.verified(&verifier), Err(VerifyError::Signature)));
    for seconds in [-301, 302] {
        let call = Call::signed(&[SECRET], seconds, CANCEL);
        assert!(matches!(call.verified(&verifier), Err(VerifyError::Time)), "{seconds}");
    }
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut call = Call::signed(&[SECRET], 0, CANCEL);
        call.headers.remove(name);
        assert!(matches!(call.verified(&verifier), Err(VerifyError::Header(it)) if it == name));
    }
    let call = Call::signed(&[SECRET], 0, r#"{"type":"task.paused"}"#);
    assert!(matches!(call.verified(&verifier), Err(VerifyError::Type(it)) if it == "task.paused"));
    let call = Call::signed(&[SECRET], 0, r#"{"type":"task.execute"}"#);
    assert!(matches!(call.verified(&verifier), Err(VerifyError::Unreadable(_))));
}

#[test]
fn no_time_is_too_odd_to_be_refused() {
    let verifier = Verifier::new(SECRET).unwrap();
    let mut call = Call::signed(&[SECRET], 0, CANCEL);
    for seconds in [i64::MIN, -1, 0, i64::MAX] {
        call.headers.insert("webhook-timestamp", seconds.to_string());
        assert!(matches!(call.verified(&verifier), Err(VerifyError::Time)), "{seconds}");
    }
}

#[test]
fn a_secret_that_everybody_knows_is_none() {
    let short = format!("whsec_{}==", "A".repeat(30));
    for secret in
        ["", "whsec_", "whsec_AAAA", &short, "whsec_not base64, but long enough to be one"]
    {
        assert!(matches!(Verifier::new(secret), Err(VerifyError::Secret)), "{secret}");
    }
}
