"""Services: handlers behind limits."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from aether._bus import Bus, Wave
from aether._errors import RefusedError
from aether._waiting import wait_async

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

    from aether import _native

LOG = logging.getLogger("aether")

F = TypeVar("F", bound=Callable[[Wave], Any])


class Service:
    """Handlers of waves, each a function of one wave, or a coroutine.

        service = aether.Service("pricer", group="pricer", retries=3, time_out=5)

        @service.on_query("prices.of")
        async def price(wave):
            await wave.emit("prices.asked", wave.value)
            return 3900

    - `group`: of several services in one group, one handles each wave. Default: each handles all.
    - `concurrency`: how many waves are handled at a time. Default: 64. Others wait, the strongest first.
    - `time_out`: how many seconds a handler may take, before it is cancelled. Default: no limit.
    - `retries`: how often a wave is handled again after a failure, weaker each time. Default: 0.
    - `grace`: how many seconds handlers have to end when the service ends.

    A handler that raises has failed; `aether.RefusedError` rejects the wave, which is then not tried again.
    Who asked gets the text.
    """

    def __init__(
        self,
        name: str,
        *,
        group: str | None = None,
        concurrency: int | None = None,
        time_out: float | None = None,
        retries: int = 0,
        grace: float = 5.0,
    ) -> None:
        self.name = name
        self.group = group
        self.concurrency = concurrency
        self.time_out = time_out
        self.retries = retries
        self.grace = grace
        self._handlers: list[tuple[bool, str, Callable[[Wave], Any]]] = []

    def on(self, pattern: str) -> Callable[[F], F]:
        """Handle the waves of a pattern, such as `orders.*`."""
        return self._register(pattern, is_query=False)

    def on_query(self, pattern: str) -> Callable[[F], F]:
        """Answer the questions of a pattern with what the function returns."""
        return self._register(pattern, is_query=True)

    async def run(self, bus: Bus) -> dict[str, int]:
        """Serve until the connection ends, or until this is cancelled. Return the outcomes of the waves.

        The outcomes go to the log `aether`, too.
        """
        async with bus.serve(self) as serving:
            await serving.ended()
        return serving.report()

    def _register(self, pattern: str, *, is_query: bool) -> Callable[[F], F]:
        def register(function: F) -> F:
            self._handlers.append((is_query, pattern, function))
            return function

        return register

    def __repr__(self) -> str:
        return f"<aether.Service {self.name!r} {[pattern for _, pattern, _ in self._handlers]!r}>"


class Serving:
    """A service that runs, within `async with bus.serve(service)`."""

    def __init__(self, bus: _native.Bus, service: Service) -> None:
        self._bus = bus
        self._service = service
        self._functions = [function for _, _, function in service._handlers]
        self._native: _native.Service | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[dict[str, int]] | None = None

    def report(self) -> dict[str, int]:
        """Return the outcomes of the waves so far: `received` is the sum of the others."""
        return {} if self._native is None else self._native.report()

    async def ended(self) -> None:
        """Wait until the service has ended, with its connection for example."""
        import asyncio

        if self._ended is not None:
            await asyncio.shield(self._ended)

    async def __aenter__(self) -> Serving:
        import asyncio

        self._loop = asyncio.get_running_loop()
        patterns = [
            (is_query, pattern, number)
            for number, (is_query, pattern, _) in enumerate(self._service._handlers)
        ]
        self._native = await wait_async(self._bus.serve(self._service, patterns, self._call))
        self._ended = asyncio.ensure_future(wait_async(self._native.ended()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._native is not None:
            self._native.stop()
            await self.ended()
            LOG.info("%s: %s", self._service.name, self.report())

    def _call(self, number: int, wave: _native.Wave, place: _native.Call) -> Callable[[], object]:
        """Start a handler, on a thread of the extension. Return what cancels it."""
        loop, tasks = self._loop, list[Any]()
        if loop is None or loop.is_closed():
            place.fail("the loop of the service is closed", False)
            return list

        def start() -> None:
            tasks.append(loop.create_task(self._handle(self._functions[number], Wave(wave), place)))

        def cancel() -> None:
            for task in tasks:
                task.cancel()

        loop.call_soon_threadsafe(start)
        return lambda: None if loop.is_closed() else loop.call_soon_threadsafe(cancel)

    async def _handle(self, function: Callable[[Wave], Any], wave: Wave, place: _native.Call) -> None:
        try:
            result = function(wave)
            if inspect.isawaitable(result):
                result = await result
            place.answer(result)
        except RefusedError as error:
            place.fail(str(error), True)
        except Exception as error:
            LOG.exception("A handler of %s failed at %r.", self._service.name, wave)
            place.fail(f"{type(error).__name__}: {error}", False)
        except BaseException:
            place.fail("the handler was cancelled", False)
            raise
