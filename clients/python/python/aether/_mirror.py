"""Folders that are the same on every machine."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

from aether._errors import ClosedError, Error
from aether._waiting import Pending, wait, wait_async
from aether._watch import Watch

if TYPE_CHECKING:
    from os import PathLike
    from types import TracebackType

    from aether import _native
    from aether._opening import Lease

# The default bounds of a mirror: of files, of bytes together, and of the bytes of one file.
MAX_FILES = 100_000
MAX_BYTES = 16 << 30
MAX_FILE = 64 << 20


class FileEvent(NamedTuple):
    """Something that a mirror did with a file."""

    kind: Literal["written", "deleted", "sent", "sent_deletion", "conflict", "refused", "missed"]
    """`written` or `deleted` here because of another machine; `sent`, or `sent_deletion`, because of a
    change here; `conflict`; `refused`: not mirrored, or not yet; `missed`: the reader was so slow that
    events were dropped."""
    path: str
    """The path below the folder, with `/`."""
    detail: str | None
    """For `written` the machine that changed it, for `conflict` the path of the version that lost, for
    `refused` the reason, for `missed` the number."""


class MirrorStatus(NamedTuple):
    """The account of a mirror. All numbers but the first three are since its start."""

    files: int
    """The files that are mirrored now."""
    bytes: int
    """Their size."""
    waiting: int
    """The files that cannot be written yet, because their bytes or the room for them are missing."""
    written: int
    """Files that were written here because another machine changed them."""
    deleted: int
    """Files that were deleted here because another machine deleted them."""
    sent: int
    """Files that were sent because they changed here."""
    sent_deletions: int
    """Deletions here that were sent."""
    conflicts: int
    """Versions that lost against a concurrent one, and were kept beside it."""
    blocks_received: int
    """Blocks of large files that came, and were checked."""
    blocks_sent: int
    """Blocks that went to other machines."""
    blocks_wrong: int
    """Blocks that came, and were not what they should be."""
    unstable: int
    """Files that were read again, because they changed while they were read."""
    refused: dict[str, int]
    """Files that were not mirrored, or not at once, by the reason."""


class Options(NamedTuple):
    """The options of a mirror, as the extension takes them."""

    prefix: str
    machine: str | None
    per_machine: bool
    max_files: int
    max_bytes: int
    max_file: int


class _Mirrored:
    """What both kinds of mirrors do, none of which waits."""

    def __init__(self, lease: Lease, native: _native.Mirror, folder: str, *, is_owner: bool) -> None:
        self._lease = lease
        self._native = native
        self._is_owner = is_owner
        self.folder = folder
        self._last = _status_of(native.status())

    def status(self) -> MirrorStatus:
        """Return the account of this mirror; after `stop`, the last one."""
        with suppress(ClosedError):
            self._last = _status_of(self._native.status())
        return self._last

    def refused(self) -> dict[str, str]:
        """Return the files that are not mirrored now, at most 4,096, each with the reason."""
        return self._native.refused()

    def events(self) -> Watch[FileEvent]:
        """Watch what the mirror does: the first call from its start on, later ones from now on.

        A reader that is more than 1,024 events behind misses the oldest ones. It ends with the mirror.
        """
        return Watch(self._native.events(), FileEvent)

    def _leave(self) -> None:
        self._lease.forget(self._native)
        if self._is_owner:
            self._is_owner = False
            self._lease.end()

    def _ended(self, account: tuple[list[int], dict[str, int]] | None) -> MirrorStatus:
        if account is not None:
            self._last = _status_of(account)
        return self._last

    def __repr__(self) -> str:
        try:
            files, *_ = _status_of(self._native.status())
        except Error:
            return f"<aether.{type(self).__name__} {self.folder!r} stopped>"
        return f"<aether.{type(self).__name__} {self.folder!r}: {files} files, {len(self.refused())} refused>"


class Mirror(_Mirrored):
    """A folder that is the same on all machines. `aether.mirror` and `Field.mirror` start one.

    It runs in the background until `stop`, also if nobody keeps this object.
    """

    def settled(self, timeout: float | None = None) -> None:
        """Look at everything, and wait until all is done that can be done now.

        The changes here are in the field then, and the files whose bytes a machine has that is there are
        written; `refused` has the others. Raises `TimeoutError` after `timeout` seconds, `FolderError` if
        the mirror has ended by itself, and `ClosedError` if it was stopped.
        """
        try:
            wait(self._native.settled(), timeout, f"settling {self.folder}")
        except ClosedError:
            self.stop()
            raise

    def stop(self) -> MirrorStatus:
        """End the mirror, and return its account. A file that is being written is whole or not there.

        Raises `FolderError` if it has ended by itself: the folder has gone, for example. A mirror that is
        stopped already stays stopped.
        """
        try:
            self.status()
            return self._ended(wait(self._native.stop(), None, "ending the mirror"))
        finally:
            self._leave()

    def __enter__(self) -> Mirror:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class AsyncMirror(_Mirrored):
    """A folder that is the same on all machines, for asyncio. `AsyncField.mirror` starts one."""

    async def settled(self) -> None:
        """Look at everything, and wait until all is done that can be done now. As `Mirror.settled`."""
        try:
            await wait_async(self._native.settled())
        except ClosedError:
            await self.stop()
            raise

    async def stop(self) -> MirrorStatus:
        """End the mirror, and return its account. Raises `FolderError` if it has ended by itself."""
        try:
            self.status()
            return self._ended(await wait_async(self._native.stop()))
        finally:
            self._leave()


def _status_of(account: tuple[list[int], dict[str, int]]) -> MirrorStatus:
    counts, refused = account
    return MirrorStatus._make([*counts, refused])


def start(lease: Lease, folder: str | PathLike[str], options: Options, *, is_owner: bool) -> Mirror:
    """Mirror a folder, with a lease that ends with the mirror if it belongs to it."""
    path = os.fspath(folder)
    native = wait(lease.mirroring(path, options), None, f"mirroring {path}")
    lease.remember(native)
    return Mirror(lease, native, path, is_owner=is_owner)


def astart(lease: Lease, folder: str | PathLike[str], options: Options) -> Pending[AsyncMirror]:
    """Mirror a folder of a field that is open."""
    path = os.fspath(folder)

    async def begin() -> AsyncMirror:
        native = await wait_async(lease.mirroring(path, options))
        lease.remember(native)
        return AsyncMirror(lease, native, path, is_owner=False)

    return Pending(begin, AsyncMirror.stop)
