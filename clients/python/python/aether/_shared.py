"""Things that several users share: made by the first one, ended by the last one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")


class _Slot(Generic[T]):
    def __init__(self) -> None:
        # Held while the thing is made or ended, so that the next user waits for that.
        self.lock = threading.Lock()
        self.users = 0
        self.value: T | None = None


class Shared(Generic[T]):
    """Things by their keys."""

    def __init__(self, end: Callable[[T], object]) -> None:
        """Know how a thing is ended."""
        self._end = end
        self.forget()

    def take(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the thing of this key, and make it if there is none."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            slot.users += 1
        try:
            with slot.lock:
                if slot.value is None:
                    slot.value = make()
                return slot.value
        except BaseException:
            self.give(key)
            raise

    def give(self, key: Hashable) -> None:
        """Give a thing back that was taken."""
        with self._lock:
            slot = self._slots.get(key)
        if slot is None:
            return
        with slot.lock:
            with self._lock:
                slot.users -= 1
                if slot.users > 0:
                    return
                del self._slots[key]
            value, slot.value = slot.value, None
            if value is not None:
                self._end(value)

    def take_all(self) -> list[T]:
        """Take all things away from their users. The caller ends them."""
        with self._lock:
            slots = list(self._slots.values())
            self._slots.clear()
        return [slot.value for slot in slots if slot.value is not None]

    def forget(self) -> None:
        """Know nothing, as in a child after a fork."""
        self._lock = threading.Lock()
        self._slots: dict[Hashable, _Slot[T]] = {}
