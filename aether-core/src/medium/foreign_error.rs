//! An error of another crate inside an error of this one.

use std::error::Error;
use std::fmt;

/// An error of a medium or of a guard, which this crate does not know. It shows as that error, and has its source.
#[derive(Debug)]
pub struct ForeignError {
    error: Box<dyn Error + Send + Sync>,
    is_transient: bool,
}

impl ForeignError {
    /// An error that stays until somebody changes something.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { error: error.into(), is_transient: false }
    }

    /// The same error, where trying again may succeed.
    #[must_use]
    pub fn transient(mut self, is_transient: bool) -> Self {
        self.is_transient = is_transient;
        self
    }

    /// Whether trying again may succeed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        self.is_transient
    }

    /// The error as the type that it has in its own crate.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }
}

impl fmt::Display for ForeignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for ForeignError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
