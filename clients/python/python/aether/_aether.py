"""The names of the library `aether-sdk`, on a field and a mirror of the local network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from aether._errors import ClosedError, RefusedError
from aether._opening import mirror
from aether._opening import open as open_field

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path
    from types import TracebackType

    from aether._field import F, Field
    from aether._mirror import Mirror
    from aether._values import Value


class Aether(MutableMapping[str, Any]):
    """A folder and variables that all machines of the local network share, by the names of `aether-sdk`.

        with aether.Aether(port=5000, secret_key="five random words") as ae:
            ae.pool("./pool")
            ae.send({"temperature": 21.5}, "kitchen.json")
            ae["lamp"] = "on"

    Machines with the same `port` and the same secret meet; nothing listens on that port. Without a
    `secret_key` the secret is that of the variable AETHER_LAN_SECRET_FILE or AETHER_LAN_SECRET, and never
    none. New programs have more with `aether.open` and `aether.mirror`.
    """

    def __init__(self, port: int = 5000, secret_key: str | PathLike[str] | None = None) -> None:
        """Open nothing yet: `activate` does, and so does `with`."""
        import socket
        import uuid

        self.port = port
        self.secret_key = secret_key
        self.node_id = str(uuid.uuid4())
        self.node_name = socket.gethostname()
        self.pool_path: Path | None = None
        self.pool_folder_name = ""
        self.distinct = False
        self._db: Field | None = None
        self._mirror: Mirror | None = None

    @property
    def running(self) -> bool:
        """Whether it is active."""
        return self._db is not None

    def activate(self) -> None:
        """Join the network. Raises `MediumError`, without a secret, too, and what `pool` raises."""
        if self._db is None:
            self._db = open_field(f"aether-{self.port}", secret=self.secret_key)
            try:
                self._start_mirror()
            except BaseException:
                self.close()
                raise

    def pool(self, path: str | PathLike[str], distinct: bool = False) -> Aether:
        """Share a folder, which is made if it does not exist, in place of the one before.

        With `distinct` each machine has a subfolder of its name, and the others read what is in it.
        Raises `FolderError`.
        """
        from pathlib import Path

        self._stop_mirror()
        self.pool_path = Path(path)
        self.pool_folder_name = self.pool_path.name
        self.distinct = distinct
        self.pool_path.mkdir(parents=True, exist_ok=True)
        self._start_mirror()
        return self

    def send(self, data: Any, filename: str) -> None:
        """Write a file of JSON into the pool, and so into that of each machine.

        With `distinct` its path there is `HOST/POOL/filename`, with the names of this machine and of its
        folder. Raises `RefusedError` for what JSON does not have, without a pool, and for a path that leads
        out of it.
        """
        import json
        import uuid

        self._active()
        target = self._file(filename)
        try:
            text = json.dumps(data, indent=4, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            message = f"{filename}: this cannot be JSON: {error}"
            raise RefusedError(message) from error
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the folder of the mirror, which it never sends.
        beside = self._folder() / ".aether-mirror" / f"send-{uuid.uuid4()}"
        beside.write_text(text, encoding="utf-8")
        beside.replace(target)

    def sync(self, target: str | None = None) -> None:
        """Wait until everything is exchanged that can be exchanged now. It goes on without this call.

        Raises `FileNotFoundError` if the file `target` is not in the pool, and `RefusedError` without a pool.
        """
        self._active()
        if not (self._folder() if target is None else self._file(target)).exists():
            raise FileNotFoundError(target or self.pool_path)
        if self._mirror is not None:
            self._mirror.settled()

    def on_change(self, key: str = "*") -> Callable[[F], F]:
        """Call a function with `key, old, new, by` after each change, on a thread of its own."""
        return self._active().on_change(key)

    def close(self) -> None:
        """Leave the network. What is closed already stays closed."""
        try:
            self._stop_mirror()
        finally:
            db, self._db = self._db, None
            if db is not None:
                db.close()

    def _active(self) -> Field:
        if self._db is None:
            message = "this is not active: call activate(), or use it in `with`"
            raise ClosedError(message)
        return self._db

    def _start_mirror(self) -> None:
        if self._db is not None and self.pool_path is not None:
            self._mirror = mirror(
                self.pool_path,
                f"aether-{self.port}-pool",
                secret=self.secret_key,
                machine=self.node_name,
                per_machine=self.distinct,
            )

    def _stop_mirror(self) -> None:
        mirror, self._mirror = self._mirror, None
        if mirror is not None:
            mirror.stop()

    def _folder(self) -> Path:
        if self.pool_path is None:
            message = "there is no folder to share: name one with pool(path)"
            raise RefusedError(message)
        return self.pool_path

    def _file(self, name: str) -> Path:
        from pathlib import Path

        folder, path = self._folder(), Path(name)
        if path.is_absolute() or ".." in path.parts or not path.name:
            message = f"{name!r} leads out of the pool"
            raise RefusedError(message)
        own = Path(self.node_name, self.pool_folder_name) if self.distinct else Path()
        return folder / own / path

    def __getitem__(self, key: str) -> Any:
        return self._active()[key]

    def __setitem__(self, key: str, value: Value) -> None:
        self._active()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._active()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._active())

    def __len__(self) -> int:
        return len(self._active())

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __enter__(self) -> Aether:
        self.activate()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.close()
        return kind is KeyboardInterrupt

    def __repr__(self) -> str:
        state = repr(self._db) if self._db is not None else "not active"
        return f"<aether.Aether port={self.port} pool={str(self.pool_path)!r} {state}>"
