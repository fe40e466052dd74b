"""Shared variables."""

from __future__ import annotations

import threading
from collections.abc import Callable, ItemsView, Iterator, KeysView, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast, overload

from aether._callbacks import Callback
from aether._errors import ClosedError, Error, IdentityError
from aether._mirror import MAX_BYTES, MAX_FILE, MAX_FILES, AsyncMirror, Mirror, Options, astart, start
from aether._parts import Counter, Node, Own, Presence, Tags
from aether._waiting import Pending, wait, wait_async
from aether._watch import Change, Loss, Peer, PeerEvent, Watch

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping
    from os import PathLike
    from types import TracebackType

    from aether import _native
    from aether._opening import Lease
    from aether._values import Value

# How far clocks may differ, in seconds, before that is reported. Of two writes the later one wins.
CLOCK_OFF = 5.0

F = TypeVar("F", bound=Callable[[str, Any, Any, str], object])


class _Closed:
    """Stands where the replica was."""

    def __getattr__(self, name: str) -> NoReturn:
        message = "the field is closed: open it again"
        raise ClosedError(message)


class Entries(MutableMapping[str, Any]):
    """What both kinds of handles do, none of which waits for anything.

    Keys are text of 1 to 256 bytes. Values are JSON and `aether.Bytes`, of at most 32 KiB. A read returns
    a new object each time, so a change inside of it, such as `db["a"]["b"] = 1`, is not seen by anybody:
    write `db["a"] = {**db["a"], "b": 1}`, or use `update`.
    """

    def __init__(self, lease: Lease) -> None:
        """Make a handle of a replica that is open. `aether.open` calls this."""
        self._lease = lease
        self._replica = lease.replica
        self._closing = threading.Lock()
        self._callbacks: list[Callback] = []

    @property
    def name(self) -> str:
        """The name of the field."""
        return self._replica.name

    def __getitem__(self, key: str) -> Any:
        return self._replica.get(key)

    def __setitem__(self, key: str, value: Value) -> None:
        self._replica.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self._replica.remove(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._replica.has(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._replica.keys("*"))

    def __len__(self) -> int:
        return len(self._replica.keys("*"))

    def keys(self, pattern: str = "*") -> KeysView[str]:
        """Return the keys that match a pattern, as they are now: a key, or the beginning of keys and `*`."""
        return dict.fromkeys(self._replica.keys(pattern)).keys()

    def values(self, pattern: str = "*") -> ValuesView[Any]:
        """Return the values of the keys that match a pattern, as they are now."""
        return self._replica.items(pattern).values()

    def items(self, pattern: str = "*") -> ItemsView[str, Any]:
        """Return the keys that match a pattern and their values, as they are now."""
        return self._replica.items(pattern).items()

    @overload  # type: ignore[override]
    def update(self, key: str, change: Callable[[Any], Value | None], /) -> None: ...
    @overload
    def update(self, other: Mapping[str, Value] | Iterable[tuple[str, Value]] = (), /) -> None: ...
    def update(self, other: Any = (), change: Callable[[Any], Value | None] | None = None, /) -> None:
        """Change one value by a function, or write many values.

        `db.update("n", lambda old: (old or 0) + 1)` writes what the function makes of the value, or of
        `None` if there is none; if it returns `None` the key is removed. Threads of this process take
        turns. Of two machines that update one key at once, one wins: use `counter` to count.
        """
        if change is None:
            for key, value in dict(other).items():
                self[key] = value
            return
        with self._lease.updating:
            value = change(self.get(other))
            if value is None:
                self._replica.remove(other)
            else:
                self[other] = value

    def counter(self, name: str) -> Counter:
        """Return the counter of this name. Counters, sets and values of one name are apart."""
        return Counter(self._replica, name)

    def tags(self, name: str) -> Tags:
        """Return the set of this name."""
        return Tags(self._replica, name)

    @property
    def presence(self) -> Presence:
        """Who is there."""
        return Presence(self._replica)

    @property
    def own(self) -> Own:
        """What this machine owns. The field must be open with `identity=`, or `IdentityError` is raised."""
        return Own(self._replica, self._replica.own_name())

    def node(self, name: str) -> Node:
        """Return what the owner of this name has written, as far as this replica trusts its key."""
        return Node(self._replica, name)

    def nodes(self) -> list[str]:
        """Return the names of the owners whose keys are trusted here."""
        return self._replica.owners()

    def trust(self, name: str, key: str) -> None:
        """Trust one more owner from now on, by its public key, and read what it has written.

        It is not remembered: name the owner in `trust=` the next time. Raises `IdentityError` if another
        key of this name is known here.
        """
        if not self._replica.trust(name, key):
            message = f"another key of {name!r} is trusted here: {self.node(name).key}"
            raise IdentityError(message)

    def publish(self, certificate: _native.Certificate) -> None:
        """Make a certificate of the root known to all replicas."""
        self._replica.publish(certificate)

    def watch(self, pattern: str = "*", *, node: str | None = None) -> Watch[Change]:
        """Watch the values that match a pattern from now on, or those of one owner."""
        return Watch(self._replica.watch(pattern, node), Change)

    def on_change(
        self,
        pattern: str = "*",
        *,
        node: str | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Callable[[F], F]:
        """Call a function with `key, old, new, by` after each change that matches a pattern.

        It is called in the order of the changes: on a thread of its own, or on an asyncio loop, where it
        may be a coroutine. To handle changes on another thread, iterate over `watch` there. An exception
        goes to the log `aether`, and ends nothing. `off` ends the calls.
        """

        def register(function: F) -> F:
            callback = Callback(self.watch(pattern, node=node), function, loop)
            self._callbacks.append(callback)
            return function

        return register

    def off(self, function: Callable[[str, Any, Any, str], object]) -> None:
        """Call a function of `on_change` no more."""
        ended = [callback for callback in self._callbacks if callback.function is function]
        for callback in ended:
            self._callbacks.remove(callback)
            callback.close()

    def superseded(self) -> Watch[Loss]:
        """Watch the writes of this replica that lose from now on against concurrent ones."""
        return Watch(self._replica.superseded(), Loss)

    def peers(self) -> list[Peer]:
        """Return the other replicas that were heard in the last seconds."""
        return [Peer(*peer) for peer in self._replica.peers()]

    def peer_events(self) -> Watch[PeerEvent]:
        """Watch the replicas that come and go from now on."""
        return Watch(
            self._replica.watch_peers(),
            lambda event, peer: PeerEvent(event, None if event == "missed" else Peer(*peer)),
        )

    def status(self) -> dict[str, int]:
        """Return the counts of this replica since it was opened. A loss is counted by its reason."""
        return self._replica.status()

    @property
    def trouble(self) -> str | None:
        """The text of what is wrong, or `None`: clocks, the disk, or another secret than the others have.

        The field goes on meanwhile.
        """
        if trouble := self._replica.trouble():
            return trouble
        clocks = sorted(clock for *_, clock in self._replica.peers())
        if not clocks:
            return self._lease.lonely()
        ahead = clocks[len(clocks) // 2]
        if abs(ahead) < CLOCK_OFF:
            return None
        others = "ahead of" if ahead > 0 else "behind"
        return f"the clocks of most others are {abs(ahead):.0f} s {others} the one here: set the clocks"

    def _take_lease(self) -> Lease | None:
        """Close this handle. The first call returns its lease."""
        with self._closing:
            if isinstance(self._replica, _Closed):
                return None
            for callback in self._callbacks:
                callback.close()
            self._callbacks.clear()
            self._replica = cast("_native.Field", _Closed())
            return self._lease

    def _ipython_key_completions_(self) -> list[str]:
        return self._replica.keys("*")

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        try:
            peers, entries, trouble = len(self.peers()), len(self), self.trouble
        except Error:
            return f"<aether.{type(self).__name__} {self._lease.name!r} closed>"
        shown = f"{entries} keys, {peers} peers" + (f"; {trouble}" if trouble else "")
        where = self._lease.medium
        return f"<aether.{type(self).__name__} {self._lease.name!r} on {where!r}: {shown}>"


class Field(Entries):
    """Shared variables: a mapping that all machines have. `aether.open` opens one.

    Every method can be called from every thread. Reads and writes never wait; `durable` and `agreed`
    do, and Ctrl-C ends them at once.
    """

    def durable(self, timeout: float | None = None) -> None:
        """Wait until everything that is here now is on the disk.

        Raises `StoreError` if there is no store or the disk fails, `TimeoutError` after `timeout` seconds.
        """
        wait(self._replica.durable(), timeout, "storing")

    def agreed(self, replicas: int = 1, timeout: float | None = None) -> None:
        """Wait until this many other replicas have everything that is here now.

        Raises `NotAgreedError` if one of them refuses something, `TimeoutError` after `timeout` seconds.
        What the others have they keep.
        """
        what = f"agreeing with {replicas} other replicas ({len(self.peers())} are there)"
        wait(self._replica.agreed(replicas), timeout, what)

    def mirror(
        self,
        folder: str | PathLike[str],
        *,
        machine: str | None = None,
        per_machine: bool = False,
        prefix: str = "files/",
        max_files: int = MAX_FILES,
        max_bytes: int = MAX_BYTES,
        max_file: int = MAX_FILE,
    ) -> Mirror:
        """Keep a folder the same on all machines that mirror one on this field.

        The arguments are those of `aether.mirror`. The mirror ends with this handle at the latest. Raises
        `FolderError`.
        """
        options = Options(prefix, machine, per_machine, max_files, max_bytes, max_file)
        self._replica.name  # noqa: B018 - raises if this handle is closed
        return start(self._lease, folder, options, is_owner=False)

    def close(self) -> None:
        """Store and send what waits, and leave. A handle that is closed already stays closed."""
        lease = self._take_lease()
        if lease is not None:
            lease.end()

    def __enter__(self) -> Field:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncField(Entries):
    """Shared variables for asyncio. `aether.aopen` opens one.

    Reads and writes are those of `Field`, and never wait. A wait that is cancelled loses nothing.
    """

    async def durable(self) -> None:
        """Wait until everything that is here now is on the disk. Raises `StoreError`."""
        await wait_async(self._replica.durable())

    async def agreed(self, replicas: int = 1) -> None:
        """Wait until this many other replicas have all that is here now. Raises `NotAgreedError`."""
        await wait_async(self._replica.agreed(replicas))

    def mirror(
        self,
        folder: str | PathLike[str],
        *,
        machine: str | None = None,
        per_machine: bool = False,
        prefix: str = "files/",
        max_files: int = MAX_FILES,
        max_bytes: int = MAX_BYTES,
        max_file: int = MAX_FILE,
    ) -> Pending[AsyncMirror]:
        """Keep a folder the same on all machines: `async with db.mirror("./pool") as mirror`, or await it.

        The arguments are those of `aether.mirror`. The mirror ends with this handle at the latest. Raises
        `FolderError`.
        """
        options = Options(prefix, machine, per_machine, max_files, max_bytes, max_file)
        self._replica.name  # noqa: B018 - raises if this handle is closed
        return astart(self._lease, folder, options)

    async def close(self) -> None:
        """Store and send what waits, and leave. If this is cancelled, it goes on in the background."""
        import asyncio

        lease = self._take_lease()
        if lease is not None:
            await asyncio.to_thread(lease.end)

    def on_change(
        self,
        pattern: str = "*",
        *,
        node: str | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Callable[[F], F]:
        """Call a function or a coroutine with `key, old, new, by` after each change, on this loop."""
        import asyncio

        return super().on_change(pattern, node=node, loop=loop or asyncio.get_running_loop())
