"""The exceptions of the package."""


class Error(Exception):
    """The base of all exceptions of this package. Its text says what failed, and what to do."""


class RefusedError(Error, ValueError):
    """A value, a key or an argument is out of bounds. Nothing has changed."""


class WrongTypeError(RefusedError, TypeError):
    """A value has a type that JSON does not have. Nothing has changed."""


class StoreError(Error):
    """The file of a field cannot be used. The field goes on in memory if it is open already."""


class FolderError(Error):
    """A folder cannot be mirrored, or not any more. Nothing was deleted on other machines because of that."""


class MediumError(Error):
    """The network or the server cannot be used."""


class IdentityError(Error):
    """The key of an owner is missing, or its file cannot be used."""


class NotAgreedError(Error):
    """Another replica does not take what was written here. The text has the reason."""


class NotSentError(Error):
    """A wave was not sent, or nobody has confirmed it."""


class NotAnsweredError(Error):
    """A question has no answer. The receiver may have acted nevertheless."""


class ClosedError(Error):
    """The handle is closed."""


class ForkedError(Error, RuntimeError):
    """The handle was opened before the process forked. Open it again in the child."""
