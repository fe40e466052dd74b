"""Waits for what the extension does in the background."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from types import TracebackType

    from aether._native import Task

T = TypeVar("T")

# The longest wait of a socket, in seconds. A longer one consists of several.
DAY = 86_400.0


class _Alarm:
    """Wakes the main thread: the interpreter writes each signal to a socket as it comes.

    A lock would not do. A signal that comes after the interpreter has looked for signals, and before the
    thread sleeps, does not end the sleep.
    """

    def __init__(self) -> None:
        self._heard, self._rung = socket.socketpair()
        self._rung.setblocking(False)

    def sleep(self, task: Task[Any], timeout: float | None) -> None:
        """Return when the task is done, or the time is over."""
        try:
            others = signal.set_wakeup_fd(self._rung.fileno(), warn_on_full_buffer=False)
        except ValueError:
            # This is not the main thread: no signal wakes it.
            _sleep_at_lock(task, timeout)
            return
        try:
            if others == -1:
                self._sleep(task, timeout)
        finally:
            signal.set_wakeup_fd(others)
        if others != -1:
            # Signals wake something else, such as an event loop, and go on doing so.
            _sleep_at_lock(task, timeout)

    def _sleep(self, task: Task[Any], timeout: float | None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        task.when_done(self._ring)
        while not task.done() and (end is None or time.monotonic() < end):
            self._heard.settimeout(DAY if end is None else min(DAY, max(0, end - time.monotonic())))
            with contextlib.suppress(TimeoutError, BlockingIOError):
                self._heard.recv(4096)

    def _ring(self) -> None:
        # If it is full the thread wakes anyway, and if it is closed nobody waits.
        with contextlib.suppress(OSError):
            self._rung.send(b"\0")

    def close(self) -> None:
        self._heard.close()
        self._rung.close()


def _sleep_at_lock(task: Task[Any], timeout: float | None) -> None:
    running = threading.Lock()
    running.acquire()
    task.when_done(running.release)
    running.acquire(timeout=-1 if timeout is None else max(0, min(timeout, threading.TIMEOUT_MAX)))


# One; two if the first two waits begin at once.
_alarms: list[_Alarm] = []


def _alarm() -> _Alarm:
    if not _alarms:
        _alarms.append(_Alarm())
    return _alarms[0]


def close() -> None:
    """End what wakes the main thread: at the end, and in the child of a fork, whose parent has it."""
    while _alarms:
        _alarms.pop().close()


def wait(task: Task[T], timeout: float | None, what: str) -> T:
    """Wait for the result of a task, with the interpreter free for other threads.

    Ctrl-C and the time-out end the wait at once, and the work behind it.
    """
    try:
        _alarm().sleep(task, timeout)
    except BaseException:
        task.cancel()
        raise
    if not task.done() and task.cancel():
        message = f"{what} took more than {timeout} s"
        raise TimeoutError(message)
    return task.result()


async def wait_async(task: Task[T]) -> T:
    """Wait for a task in the loop that runs. A cancelled wait ends the work behind it."""
    import asyncio

    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def settle() -> None:
        if not done.done():
            done.set_result(None)

    def wake() -> None:
        # Nobody waits in a loop that is closed.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle)

    task.when_done(wake)
    try:
        await done
    except BaseException:
        task.cancel()
        raise
    return task.result()


class Pending(Generic[T]):
    """Something that has not begun: await it, or use it with `async with`, which ends it as well."""

    def __init__(
        self, begin: Callable[[], Coroutine[Any, Any, T]], end: Callable[[T], Awaitable[object]]
    ) -> None:
        self._begin = begin
        self._end = end
        self._begun: T | None = None

    def __await__(self) -> Generator[object, None, T]:
        return self._begin().__await__()

    async def __aenter__(self) -> T:
        self._begun = await self._begin()
        return self._begun

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._begun is not None:
            await self._end(self._begun)
