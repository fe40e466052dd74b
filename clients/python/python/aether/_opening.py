"""Opening fields.

Handles of one process that are opened alike share a replica, and fields of one medium share a connection.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from aether import _native, _waiting
from aether._errors import Error
from aether._field import AsyncField, Field
from aether._medium import Medium
from aether._mirror import MAX_BYTES, MAX_FILE, MAX_FILES, Mirror, Options, start
from aether._shared import Shared
from aether._waiting import Pending, wait

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping
    from os import PathLike

LOG = logging.getLogger("aether")

# How long the end of the interpreter waits for one field or connection to close, in seconds.
AT_EXIT = 5.0
# How long a look at the local network may take, in seconds. It takes a millisecond.
LOOK = 1.0


class _Options(NamedTuple):
    """How a replica is opened."""

    medium: Medium
    name: str
    replica: str
    store: str | None
    identity: _native.Identity | None
    trust: tuple[tuple[str, str], ...]
    root: str | None

    def join(self) -> Joined:
        bus = buses.take(self.medium, lambda: wait(self.medium.connecting(), None, "connecting"))
        try:
            trust = (list(self.trust), self.root)
            future = bus.join((self.name, self.replica), self.store, self.identity, trust)
            return Joined(wait(future, None, "opening the field"), bus, self.medium)
        except BaseException:
            buses.give(self.medium)
            raise


class Joined:
    """A replica that is open, for all handles of it."""

    def __init__(self, replica: _native.Field, bus: _native.Bus, medium: Medium) -> None:
        """Keep what belongs to the replica."""
        self.replica = replica
        self.bus = bus
        self.medium = medium
        # Handles that update one value take turns.
        self.updating = threading.RLock()
        # The folders that are mirrored on it, also those whose handles nobody keeps.
        self.mirrors: set[_native.Mirror] = set()

    def close(self, timeout: float | None = None) -> None:
        """Store, leave, and give the connection back."""
        try:
            for mirror in self.mirrors:
                _end(mirror.stop())
            wait(self.replica.close(), timeout, "closing the field")
        finally:
            buses.give(self.medium)


buses: Shared[_native.Bus] = Shared(lambda bus: wait(bus.close(), None, "closing the connection"))
replicas: Shared[Joined] = Shared(Joined.close)


class Lease:
    """The use of a replica by one handle."""

    def __init__(self, options: _Options) -> None:
        """Open the replica, unless another handle of this process has it open."""
        self.name = options.name
        self.medium = options.medium.address
        self._options = options
        self._mirrors: set[_native.Mirror] = set()
        joined = self._joined = replicas.take(options, options.join)
        self.replica = joined.replica
        self.updating = joined.updating
        self.bus = joined.bus

    def mirroring(self, folder: str, options: Options) -> _native.Task[_native.Mirror]:
        """Start to mirror a folder."""
        return self.bus.mirror(self.replica, folder, options)

    def remember(self, mirror: _native.Mirror) -> None:
        """Keep a mirror, which ends with this lease at the latest."""
        self._joined.mirrors.add(mirror)
        self._mirrors.add(mirror)

    def forget(self, mirror: _native.Mirror) -> None:
        """Keep a mirror no more, which is stopped."""
        self._joined.mirrors.discard(mirror)
        self._mirrors.discard(mirror)

    def lonely(self) -> str | None:
        """Say why nobody is found on the local network, if that can be seen."""
        try:
            seen = wait(self.bus.surroundings(), LOOK, "looking around")
        except TimeoutError:
            return None
        if seen is None or seen[0] > 0:
            return None
        _, same, other, none, version = seen
        if other or none:
            return f"nobody has this secret: {other} programs here have another one, {none} have none"
        if version:
            return "the other programs here have another version of aether: update them, or this one"
        if same:
            return (
                f"{same} programs here have this secret and do not answer: look at their firewalls, "
                "and at clocks that differ by a minute or more"
            )
        return None

    def end(self) -> None:
        """End the use, and the mirrors of it; the last one closes the replica."""
        for mirror in list(self._mirrors):
            _end(mirror.stop())
            self.forget(mirror)
        replicas.give(self._options)


def open(  # noqa: A001
    name: str,
    *,
    secret: str | PathLike[str] | None = None,
    medium: str = "lan:",
    peers: Iterable[str] = (),
    store: str | PathLike[str] | None = None,
    replica: str | None = None,
    identity: _native.Identity | str | PathLike[str] | None = None,
    trust: Mapping[str, str] | None = None,
    root: str | None = None,
) -> Field:
    """Open shared variables. All programs that open a field of one name on one medium share it.

    - `secret`: what all machines of the local network share: a text of at least 16 bytes, such as five
      random words, or a `pathlib.Path` of a file with it. On NATS it is the path of a file of
      `aether keys new`. Default: the variables AETHER_LAN_SECRET_FILE and AETHER_LAN_SECRET.
    - `medium`: `lan:` (this network, no server), `nats://host:4222`, or `local:` (this process).
    - `peers`: addresses of other machines, such as `10.0.0.5`, where the network blocks multicast.
    - `store`: a file that keeps the field. One process at a time can have it open.
    - `replica`: the name by which others see this program. Default: the name of the machine.
    - `identity`: the key with which `own` is signed: an `aether.Identity`, or its file.
    - `trust`, `root`: the public keys of the owners whose `node` is read, by name, or the key that
      certifies owners. Default: nobody is trusted.

    It returns within about a second, also without a network, and what others have follows. Raises
    `MediumError`, `StoreError`, `IdentityError`, or `RefusedError`.
    """
    options = _options(name, secret, medium, peers, store, replica, identity, trust, root)
    return Field(Lease(options))


def mirror(
    folder: str | PathLike[str],
    name: str,
    *,
    secret: str | PathLike[str] | None = None,
    medium: str = "lan:",
    peers: Iterable[str] = (),
    store: str | PathLike[str] | None = None,
    machine: str | None = None,
    per_machine: bool = False,
    prefix: str = "files/",
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
    max_file: int = MAX_FILE,
) -> Mirror:
    """Keep a folder the same on all machines: `aether.mirror("./pool", "home", secret="five random words")`.

    It opens the field `name`, whose `secret`, `medium`, `peers` and `store` are those of `aether.open`, and
    closes it with `stop`. `Field.mirror` mirrors a folder on a field that is open. The folder is made if it
    does not exist, and what it has already is mirrored, too.

    - `machine`: the name of this machine in the names of conflicts. Default: the name of the host.
    - `per_machine`: whether each machine has a subfolder of its name, and sends only what is in it.
    - `prefix`: the beginning of the keys of the files. Mirrors of one field share files if it is the same.
    - `max_files`, `max_bytes`: up to how many files and bytes others can add to the folder.
    - `max_file`: the size of the largest file that is mirrored, at most 64 MiB.

    Raises `FolderError`, and what `aether.open` raises.
    """
    lease = Lease(_options(name, secret, medium, peers, store, machine, None, None, None))
    options = Options(prefix, machine, per_machine, max_files, max_bytes, max_file)
    try:
        return start(lease, folder, options, is_owner=True)
    except BaseException:
        lease.end()
        raise


def aopen(
    name: str,
    *,
    secret: str | PathLike[str] | None = None,
    medium: str = "lan:",
    peers: Iterable[str] = (),
    store: str | PathLike[str] | None = None,
    replica: str | None = None,
    identity: _native.Identity | str | PathLike[str] | None = None,
    trust: Mapping[str, str] | None = None,
    root: str | None = None,
) -> Pending[AsyncField]:
    """Open shared variables for asyncio: `async with aether.aopen("home", secret=...) as db`.

    The arguments are those of `aether.open`.
    """
    options = _options(name, secret, medium, peers, store, replica, identity, trust, root)

    async def begin() -> AsyncField:
        import asyncio

        opening = asyncio.ensure_future(asyncio.to_thread(Lease, options))
        try:
            return AsyncField(await asyncio.shield(opening))
        except asyncio.CancelledError:
            # Nobody would close what the thread opens.
            opening.add_done_callback(_end_unwanted)
            raise

    return Pending(begin, AsyncField.close)


def _options(
    name: str,
    secret: str | PathLike[str] | None,
    medium: str,
    peers: Iterable[str],
    store: str | PathLike[str] | None,
    replica: str | None,
    identity: _native.Identity | str | PathLike[str] | None,
    trust: Mapping[str, str] | None,
    root: str | None,
) -> _Options:
    if replica is None:
        import socket

        replica = socket.gethostname()
    if identity is not None and not isinstance(identity, _native.Identity):
        identity = _native.Identity.load(identity)
    return _Options(
        Medium.of(medium, secret, peers),
        name,
        replica,
        None if store is None else os.path.abspath(store),  # noqa: PTH100
        identity,
        tuple(sorted((trust or {}).items())),
        root,
    )


def _end_unwanted(opening: asyncio.Future[Lease]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        threading.Thread(target=opening.result().end, name="aether-close", daemon=True).start()


def _at_exit() -> None:
    for joined in replicas.take_all():
        for mirrored in joined.mirrors:
            _end(mirrored.stop())
        _end(joined.replica.close())
    for bus in buses.take_all():
        _end(bus.close())
    _native.shutdown()
    _waiting.close()


def _end(closing: _native.Task[Any]) -> None:
    try:
        wait(closing, AT_EXIT, "closing at the end of the program")
    except (Error, TimeoutError):
        LOG.exception("What was open is not closed in order.")


def _in_child() -> None:
    _native.forked()
    _waiting.close()
    buses.forget()
    replicas.forget()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
