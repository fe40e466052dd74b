"""The parts of a field beside its values: counters, sets, owned state and participants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, MutableSet
from typing import TYPE_CHECKING, Any

from aether._values import Bytes
from aether._watch import Participant, Watch

if TYPE_CHECKING:
    from aether import _native
    from aether._values import Value


class Counter:
    """A counter: all additions of all machines count."""

    def __init__(self, replica: _native.Field, name: str) -> None:
        """Name a counter of a field."""
        self._replica = replica
        self.name = name

    @property
    def value(self) -> int:
        """The sum; 0 if nobody has added to it."""
        return self._replica.count(self.name)

    def add(self, by: int = 1) -> None:
        """Add a number, which may be negative, of at most 63 bits."""
        self._replica.add(self.name, by)

    def watch(self) -> Watch[int]:
        """Watch the sum from now on."""
        return Watch(self._replica.watch_counter(self.name), lambda _name, total, _by: int(total))

    def __int__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"<aether.Counter {self.name!r} value={self.value}>"


class Tags(MutableSet[str | Bytes]):
    """A set of text, or of `aether.Bytes`. An addition survives a removal that had not seen it."""

    def __init__(self, replica: _native.Field, name: str) -> None:
        """Name a set of a field."""
        self._replica = replica
        self.name = name

    def add(self, value: str | Bytes) -> None:
        """Add a member of 1 to 256 bytes."""
        self._replica.insert(self.name, _member_bytes(value))

    def discard(self, value: str | Bytes) -> None:
        """Remove a member if it is there."""
        self._replica.discard(self.name, _member_bytes(value))

    def watch(self) -> Watch[tuple[str | Bytes, bool]]:
        """Watch from now on: each member that has changed, and whether it is in the set now."""
        return Watch(
            self._replica.watch_members(self.name),
            lambda _name, member, is_member, _by: (_member(member), bool(is_member)),
        )

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, (str, Bytes)):
            return False
        return _member_bytes(value) in self._replica.members(self.name)

    def __iter__(self) -> Iterator[str | Bytes]:
        return map(_member, self._replica.members(self.name))

    def __len__(self) -> int:
        return len(self._replica.members(self.name))

    def __repr__(self) -> str:
        return f"<aether.Tags {self.name!r} {set(self)!r}>"


def _member_bytes(value: str | Bytes) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _member(member: bytes) -> str | Bytes:
    try:
        return member.decode()
    except UnicodeDecodeError:
        return Bytes(member)


class Node(Mapping[str, Any]):
    """What one owner has written: values that it has signed, and that nobody else can write."""

    def __init__(self, replica: _native.Field, name: str) -> None:
        """Name an owner."""
        self._replica = replica
        self.name = name

    @property
    def key(self) -> str | None:
        """The public key of the owner, or `None` if this replica trusts none of this name."""
        return self._replica.owner_key(self.name)

    def __getitem__(self, key: str) -> Any:
        return self._replica.owner_get(self.name, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._replica.owner_items(self.name, "*"))

    def __len__(self) -> int:
        return len(self._replica.owner_items(self.name, "*"))

    def __repr__(self) -> str:
        return f"<aether.{type(self).__name__} {self.name!r} {dict(self)!r}>"


class Own(Node, MutableMapping[str, Any]):
    """What this machine owns: every write is signed with its key, and nobody else can write here."""

    def rotate(self, following: _native.Identity) -> None:
        """Replace the key of this owner by the one of `following`, which is saved already.

        The key of today signs the next one, and everything is signed again.
        """
        self._replica.rotate(following)

    def __setitem__(self, key: str, value: Value) -> None:
        self._replica.own_set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self._replica.own_remove(key):
            raise KeyError(key)


class Presence(MutableMapping[str, Any]):
    """Who is there: names with a value of at most 4 KiB of JSON each, such as a cursor.

    A write announces a participant of this process, and a removal takes it away. A participant of a
    process that has died goes after 10 s. Nothing of it is stored.
    """

    def __init__(self, replica: _native.Field) -> None:
        """Show the participants of a field."""
        self._replica = replica

    def watch(self) -> Watch[Participant]:
        """Watch the participants: first all that are there, then each that changes."""
        return Watch(self._replica.watch_presence(), Participant)

    def __getitem__(self, name: str) -> Any:
        return self._replica.participants()[name]

    def __setitem__(self, name: str, value: Value | None) -> None:
        self._replica.announce(name, value)

    def __delitem__(self, name: str) -> None:
        if not self._replica.leave(name):
            raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._replica.participants())

    def __len__(self) -> int:
        return len(self._replica.participants())

    def __repr__(self) -> str:
        return f"<aether.Presence {self._replica.participants()!r}>"
