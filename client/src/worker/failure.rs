use std::{any::type_name, error::Error, fmt::Display};

use nightshift_openapi::ErrorReport;

/// Why an attempt failed, as it is told to the service.
///
/// Every error becomes one by `?`; its type's name is the class path, and its causes are the
/// traceback. [`Failure::of`] does the same for errors that are none themselves, such as
/// `Box<dyn Error + Send + Sync>` or those of anyhow.
///
/// ```
/// # use nightshift_client::worker::{Context, Failure};
/// async fn count(_: Context, path: String) -> Result<usize, Failure> {
///     let text = std::fs::read_to_string(&path)?;
///     if text.is_empty() {
///         return Err(Failure::new("sky.EmptyFile", path).retryable(false));
///     }
///     Ok(text.lines().count())
/// }
/// ```
// It is no error itself: else it could not be made of every error.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure(ErrorReport);

impl Failure {
    /// A failure of a class, such as `myapp.BrokenImage`.
    pub fn new(class_path: impl Into<String>, message: impl Display) -> Self {
        Self(ErrorReport {
            exception_class_path: Some(class_path.into()),
            message: Some(message.to_string()),
            traceback: None,
            retryable: None,
        })
    }

    /// What an error says that is behind a pointer: `.map_err(Failure::of)`.
    pub fn of<E: AsRef<dyn Error + Send + Sync>>(error: E) -> Self {
        described::<E>(error.as_ref())
    }

    /// Whether to try again while attempts are left; true unless said otherwise.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = Some(retryable);
        self
    }

    /// Where it happened, in as many lines as it takes.
    #[must_use]
    pub fn traceback(mut self, traceback: impl Into<String>) -> Self {
        self.0.traceback = Some(traceback.into());
        self
    }

    pub(super) fn into_report(self) -> ErrorReport {
        self.0
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        described::<E>(&error)
    }
}

fn described<E>(error: &dyn Error) -> Failure {
    let failure = Failure::new(type_name::<E>(), error);
    let causes: Vec<String> = std::iter::successors(error.source(), |&cause| cause.source())
        .map(|cause| format!("caused by: {cause}"))
        .collect();
    if causes.is_empty() { failure } else { failure.traceback(causes.join("\n")) }
}

#[cfg(test)]
mod tests {
    use std::{error::Error, io};

    use super::Failure;

    #[derive(Debug, thiserror::Error)]
    #[error("the image is broken")]
    struct Broken(#[source] io::Error);

    #[test]
    fn an_error_tells_its_class_and_its_causes() {
        let number = "x".parse::<i64>().unwrap_err();
        let report = Failure::from(io::Error::other(number)).into_report();
        assert_eq!(report.exception_class_path.as_deref(), Some("std::io::error::Error"));
        assert_eq!(report.message.as_deref(), Some("invalid digit found in string"));
        assert_eq!(report.retryable, None);
        let boxed: Box<dyn Error + Send + Sync> = "no stars".into();
        assert_eq!(Failure::of(boxed).into_report().message.as_deref(), Some("no stars"));
        let report = Failure::from(Broken(io::Error::other("disk"))).into_report();
        assert_eq!(report.traceback.as_deref(), Some("caused by: disk"));
    }
}
