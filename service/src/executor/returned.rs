use serde_json::value::RawValue;

use crate::domain::{
    attempt::{Failure, FailureKind, Outcome},
    json::JsonText,
};

/// What a return value means; `whose` it is, for the error that it may be.
pub(super) fn returned(value: &[u8], whose: &str) -> Outcome {
    let rejected = |why: &str| {
        let message = format!("the {whose} return value cannot be kept: {why}");
        Outcome::Failed(Failure::new(FailureKind::Rejected, message))
    };
    match serde_json::from_slice::<&RawValue>(value) {
        Ok(value) => match JsonText::from_valid(value.get()) {
            Ok(value) => Outcome::Succeeded(value),
            Err(_too_deep) => rejected("it is nested too deeply"),
        },
        Err(error) => rejected(&format!("it is not JSON ({error})")),
    }
}
