"""Callbacks: a function that is called with each change."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from aether._errors import Error

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from aether._watch import Change, Watch

LOG = logging.getLogger("aether")


class Callback:
    """A function that is called with the changes of a watch: on a thread of its own, or on a loop."""

    def __init__(
        self,
        watch: Watch[Change],
        function: Callable[[str, Any, Any, str], object],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        """Start the thread, which ends with the watch."""
        self.function = function
        self._watch = watch
        self._loop = loop
        name = f"aether-{getattr(function, '__name__', 'callback')}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def close(self) -> None:
        """Call the function no more."""
        self._watch.close()

    def _run(self) -> None:
        while True:
            try:
                change = next(self._watch)
            except StopIteration:
                return
            except Error:
                LOG.exception("A change cannot be read.")
                continue
            try:
                self._call(change)
            except Exception:
                LOG.exception("The callback %r failed at %r.", self.function, change.key)
                if self._loop is not None and self._loop.is_closed():
                    return

    def _call(self, change: Change) -> None:
        if self._loop is None:
            self.function(change.key, change.old, change.new, change.by)
            return
        import asyncio

        # One after the other, so that their order is the order of the changes.
        asyncio.run_coroutine_threadsafe(self._call_in_loop(change), self._loop).result()

    async def _call_in_loop(self, change: Change) -> None:
        import inspect

        result = self.function(change.key, change.old, change.new, change.by)
        if inspect.isawaitable(result):
            await result
