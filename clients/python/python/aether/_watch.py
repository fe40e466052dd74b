"""What happens in a field, one item after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from aether._errors import ClosedError
from aether._waiting import wait, wait_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from aether import _native

T = TypeVar("T")


class Change(NamedTuple):
    """A value that has changed, here or elsewhere."""

    key: str
    old: Any
    """The value before; `None` if there was none."""
    new: Any
    """The value now; `None` if it was removed."""
    by: str
    """The name of the replica that wrote it, or the id of its writer if the name is not known."""
    owner: str | None
    """The owner, if only it can write this key."""


class Loss(NamedTuple):
    """A write of this replica that lost against one whose writer had not seen it."""

    key: str
    lost: Any
    """The value that was written here; `None` for a removal."""
    value: Any
    """The value that stands; `None` for a removal."""
    by: str | None
    """The name of the replica that won, if known."""


class Peer(NamedTuple):
    """Another replica of the field."""

    name: str
    owner: str | None
    """The owner whose key has signed its messages, if this replica trusts one."""
    agrees: bool
    """Whether it had the same state as this replica when it was heard last."""
    entries: int
    """The entries that it had then, marks of removals included."""
    clock: float
    """By how many seconds its clock is ahead of the one here."""


class PeerEvent(NamedTuple):
    """A peer that has come, has proven its owner, or has left."""

    event: str
    """`joined`, `proven` or `left`; `missed` if the reader was so slow that events were dropped."""
    peer: Peer | None
    """The peer; `None` for `missed`."""


class Participant(NamedTuple):
    """A participant that has come, has changed, or has left."""

    name: str
    is_present: bool
    value: Any


class Watch(Iterator[T], AsyncIterator[T], Generic[T]):
    """What happens from now on: for `for`, for `async for`, and for `next`.

    Changes of one key that were not taken yet become one, with the oldest `old` and the newest `new`, so
    a slow reader costs no memory and always gets the newest state. A `for` waits; Ctrl-C ends it. In
    asyncio use `async for`. A wait that is cancelled or timed out loses nothing. It ends when the field
    or the watch is closed.
    """

    def __init__(self, stream: _native.Stream, make: Callable[..., T]) -> None:
        """Watch a stream of the extension."""
        self._stream = stream
        self._make = make

    def next(self, timeout: float | None = None) -> T:
        """Return the next item, and wait for it if there is none.

        Raises `TimeoutError` after `timeout` seconds, `ClosedError` at the end.
        """
        while (item := self._stream.take()) is None:
            if not wait(self._stream.ready(), timeout, "waiting for the next change"):
                message = "the field or its watch is closed"
                raise ClosedError(message)
        return self._make(*item)

    def close(self) -> None:
        """End the watch, also for those that wait for it."""
        self._stream.close()

    def __iter__(self) -> Watch[T]:
        return self

    def __next__(self) -> T:
        try:
            return self.next()
        except ClosedError:
            raise StopIteration from None

    def __aiter__(self) -> Watch[T]:
        return self

    async def __anext__(self) -> T:
        # Nothing is awaited between the look and the return, so a cancelled task has taken nothing.
        while (item := self._stream.take()) is None:
            if not await wait_async(self._stream.ready()):
                raise StopAsyncIteration
        return self._make(*item)

    def __enter__(self) -> Watch[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
