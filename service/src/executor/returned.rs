//! Checks a return value, in the same way for called executors and for plugins.

use serde_json::value::RawValue;

use crate::domain::{
    attempt::{Failure, FailureKind, Outcome},
    json::JsonText,
};

/// The outcome of an attempt with this return value. `whose` names its origin in error messages,
/// such as `executor's`.
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
