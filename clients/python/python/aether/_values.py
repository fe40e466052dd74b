"""The values that a field holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias


class Bytes(bytes):
    """Bytes as a value of a field: `db["photo"] = aether.Bytes(data)`.

    JSON has no bytes, so they must be wrapped. Other programs see the object `{"$bytes": "..."}` with
    base64. A read returns `aether.Bytes` again, which is a `bytes`. A value has at most 32 KiB of JSON,
    so at most 24 KB of bytes.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"aether.Bytes({super().__repr__()})"


if TYPE_CHECKING:
    # What can be written. Tuples are read as lists.
    Value: TypeAlias = (
        bool | int | float | str | Bytes | Sequence["Value | None"] | Mapping[str, "Value | None"]
    )
