//! The exceptions of the package, and which failure becomes which.

use std::error::Error;

use aether::field::{FieldError, IdentityError, JoinFieldError, PresenceError};
use aether::mirror::MirrorError;
use aether::wave::ReplyError;
use aether::{ConfirmError, EmitError, JoinError, PayloadError};
use aether::{ConnectError, CreateError, WaveError};
use aether_service::{AskerError, ServiceError};
use pyo3::PyErr;

/// The exceptions, which are written in Python.
pub(crate) mod exceptions {
    use pyo3::import_exception;

    import_exception!(aether._errors, ClosedError);
    import_exception!(aether._errors, FolderError);
    import_exception!(aether._errors, ForkedError);
    import_exception!(aether._errors, IdentityError);
    import_exception!(aether._errors, MediumError);
    import_exception!(aether._errors, NotAgreedError);
    import_exception!(aether._errors, NotAnsweredError);
    import_exception!(aether._errors, NotSentError);
    import_exception!(aether._errors, RefusedError);
    import_exception!(aether._errors, StoreError);
    import_exception!(aether._errors, WrongTypeError);
}

/// A failure that is not an exception yet: it is made without the interpreter.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    text: String,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Closed,
    Folder,
    Identity,
    Medium,
    NotAgreed,
    NotAnswered,
    NotSent,
    Refused,
    Store,
}

impl Failure {
    fn of(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        Self { kind, text: chain(error) }
    }

    /// A change or a call that is refused.
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self { kind: Kind::Refused, text: text.into() }
    }
}

impl From<Failure> for PyErr {
    fn from(Failure { kind, text }: Failure) -> Self {
        match kind {
            Kind::Closed => exceptions::ClosedError::new_err(text),
            Kind::Folder => exceptions::FolderError::new_err(text),
            Kind::Identity => exceptions::IdentityError::new_err(text),
            Kind::Medium => exceptions::MediumError::new_err(text),
            Kind::NotAgreed => exceptions::NotAgreedError::new_err(text),
            Kind::NotAnswered => exceptions::NotAnsweredError::new_err(text),
            Kind::NotSent => exceptions::NotSentError::new_err(text),
            Kind::Refused => exceptions::RefusedError::new_err(text),
            Kind::Store => exceptions::StoreError::new_err(text),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::of(Kind::Medium, &error)
    }
}

impl From<JoinFieldError> for Failure {
    fn from(error: JoinFieldError) -> Self {
        let kind = match &error {
            JoinFieldError::Store(_) => Kind::Store,
            JoinFieldError::Create(_) | JoinFieldError::Join(_) => Kind::Medium,
            _ => Kind::Refused,
        };
        Self::of(kind, &error)
    }
}

impl From<FieldError> for Failure {
    fn from(error: FieldError) -> Self {
        let kind = match &error {
            // Their texts name what Rust calls.
            FieldError::NoIdentity => {
                let text = "nothing is owned here: open the field with identity=, such as aether.Identity.create(\"pi-1\", \
                            \"pi-1.identity\")";
                return Self { kind: Kind::Identity, text: text.to_owned() };
            }
            FieldError::NoStore => {
                let text = "the field has no store: open it with store=, such as \"home.field\"";
                return Self { kind: Kind::Store, text: text.to_owned() };
            }
            FieldError::Store(_) => Kind::Store,
            FieldError::NotTaken { .. } | FieldError::ClockBehind { .. } => Kind::NotAgreed,
            FieldError::Closed => Kind::Closed,
            _ => Kind::Refused,
        };
        Self::of(kind, &error)
    }
}

impl From<PresenceError> for Failure {
    fn from(error: PresenceError) -> Self {
        let kind = if matches!(error, PresenceError::Closed) { Kind::Closed } else { Kind::Refused };
        Self::of(kind, &error)
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::of(Kind::Identity, &error)
    }
}

impl From<MirrorError> for Failure {
    fn from(error: MirrorError) -> Self {
        let kind = match &error {
            MirrorError::Create(_) | MirrorError::Join(_) => Kind::Medium,
            MirrorError::Machine { .. } | MirrorError::Name(_) => Kind::Refused,
            MirrorError::Closed => Kind::Closed,
            _ => Kind::Folder,
        };
        Self::of(kind, &error)
    }
}

impl From<CreateError> for Failure {
    fn from(error: CreateError) -> Self {
        let kind = if matches!(error, CreateError::Floors(_)) { Kind::Medium } else { Kind::Refused };
        Self::of(kind, &error)
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let kind = if matches!(error, JoinError::Invalid(_)) { Kind::Refused } else { Kind::Medium };
        Self::of(kind, &error)
    }
}

impl From<WaveError> for Failure {
    fn from(error: WaveError) -> Self {
        Self::of(Kind::Refused, &error)
    }
}

impl From<PayloadError> for Failure {
    fn from(error: PayloadError) -> Self {
        Self::of(Kind::Refused, &error)
    }
}

impl From<EmitError> for Failure {
    fn from(error: EmitError) -> Self {
        Self::of(Kind::NotSent, &error)
    }
}

impl From<ConfirmError> for Failure {
    fn from(error: ConfirmError) -> Self {
        Self::of(Kind::NotSent, &error)
    }
}

impl From<ReplyError> for Failure {
    fn from(error: ReplyError) -> Self {
        Self::of(Kind::NotSent, &error)
    }
}

impl From<AskerError> for Failure {
    fn from(error: AskerError) -> Self {
        Self::of(Kind::NotAnswered, &error)
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self::of(Kind::Refused, &error)
    }
}

/// An error and its causes. A cause that the text before ends with is left out.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
