//! The errors of the store.

use std::path::PathBuf;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use thiserror::Error;

/// Why the store could not do what was asked. A missing row, or an operation that came too late, is
/// not an error.
#[derive(Debug, Error)]
pub enum Error {
    /// The writer's queue is full; nothing was done.
    #[error("the writer's queue is full")]
    Overloaded,
    /// There is no room in memory for what was asked for; nothing was done.
    #[error("there is no room in memory")]
    NoRoom,
    /// The database cannot be reached or used now. If a write was asked for, it may have been done.
    #[error("the database cannot be used")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store has been closed; nothing was done.
    #[error("the store is closed")]
    Closed,
    /// The database holds something that this program never writes.
    #[error("the database holds {0}")]
    Corrupt(String),
    /// The database refused a statement, for example because of a constraint.
    #[error("a statement failed")]
    Statement(#[source] DieselError),
}

/// The database is not the one that the service was started on. It is a cause of
/// [`Error::Unavailable`] that an operator has to look into.
#[derive(Clone, Debug, Error)]
pub enum Misplaced {
    #[error(
        "{} was moved, deleted or replaced, or its -wal was: whatever is written would be lost. \
         Move back what was there, or stop the service, put the file there that is to be used, \
         and start it again",
        .0.display()
    )]
    File(PathBuf),
    #[error(
        "it holds no tables of this nightshift ({0}); if it was made anew on purpose, start the \
         service again, which makes them"
    )]
    Schema(String),
}

impl Error {
    /// How the database was replaced, if that is the cause.
    pub fn misplaced(&self) -> Option<&Misplaced> {
        match self {
            Self::Unavailable(cause) => cause.downcast_ref(),
            Self::Overloaded
            | Self::NoRoom
            | Self::Closed
            | Self::Corrupt(_)
            | Self::Statement(_) => None,
        }
    }

    /// Whether another process stored the same id or key at the same moment. The next try finds
    /// what it has stored.
    pub(super) fn is_race(&self) -> bool {
        let Self::Statement(DieselError::DatabaseError(kind, _)) = self else {
            return false;
        };
        matches!(kind, DatabaseErrorKind::UniqueViolation)
    }
}

pub type Result<T> = std::result::Result<T, Error>;

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        // An error that is not about the statement is about the server, the disk or the file.
        let elsewhere = matches!(
            &error,
            DieselError::DatabaseError(
                DatabaseErrorKind::ClosedConnection
                    | DatabaseErrorKind::UnableToSendCommand
                    | DatabaseErrorKind::SerializationFailure
                    | DatabaseErrorKind::ReadOnlyTransaction
                    | DatabaseErrorKind::Unknown,
                _,
            ) | DieselError::BrokenTransactionManager
        );
        if elsewhere { Self::Unavailable(Box::new(error)) } else { Self::Statement(error) }
    }
}

impl From<diesel::r2d2::PoolError> for Error {
    fn from(error: diesel::r2d2::PoolError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}
