"""The message bus: waves, and the vibrators that emit and receive them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from aether._medium import Medium
from aether._waiting import Pending, wait_async

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from aether import _native
    from aether._service import Service, Serving
    from aether._values import Value

LOG = logging.getLogger("aether")

# How long a question waits for its answer, in seconds.
TIMEOUT = 10.0


class _Sends:
    """What emits waves and asks questions."""

    def __init__(self, sender: _native.Sender | _native.Wave) -> None:
        self._sender = sender

    async def emit(
        self,
        channel: str,
        value: Value | None = None,
        *,
        amplitude: float | None = None,
        kind: str = "event",
        key: str | None = None,
        confirmed: bool = False,
    ) -> None:
        """Emit a wave: a value as JSON, or `aether.Bytes` as they are.

        - `amplitude`: how important it is, 0 to 1. Default: 0.5. Under overload weak waves are lost first.
        - `kind`: `event`, `command`, or `broadcast`.
        - `key`: what it is about, such as an order number.
        - `confirmed`: whether to wait until the broker has it.

        Raises `NotSentError`, or `RefusedError` for what no wave can have. If it is cancelled, the wave may
        be sent nevertheless.
        """
        await wait_async(self._sender.emit((channel, value, amplitude, kind, key), confirmed))

    async def ask(
        self,
        channel: str,
        value: Value | None = None,
        *,
        amplitude: float | None = None,
        key: str | None = None,
        timeout: float = TIMEOUT,
    ) -> Wave:
        """Ask a question and return the answer, a wave.

        What fails for a moment is asked again, weaker each time, until `timeout` seconds are over. Raises
        `NotAnsweredError`. The receiver may have acted nevertheless.
        """
        content = (channel, value, amplitude, "query", key)
        answer: _native.Wave = await wait_async(self._sender.ask(content, timeout))
        return Wave(answer)


class Wave(_Sends):
    """A message that has arrived. What it emits and asks names it as its cause, and is in its trace."""

    _sender: _native.Wave

    @property
    def channel(self) -> str:
        """The channel, such as `orders.created`."""
        return self._sender.channel

    @property
    def value(self) -> Any:
        """The value of its JSON, its text, or `aether.Bytes`. Raises `RefusedError` for wrong JSON."""
        return self._sender.value

    @property
    def payload(self) -> bytes:
        """The payload as it was sent."""
        return self._sender.payload

    @property
    def content_type(self) -> str:
        """The media type of the payload."""
        return self._sender.content_type

    @property
    def source(self) -> str:
        """The vibrator that emitted it, as `name@instance`."""
        return self._sender.source

    @property
    def id(self) -> str:
        """Its id, which no other wave has."""
        return self._sender.id

    @property
    def cause(self) -> str | None:
        """The id of the wave that caused it, if one did."""
        return self._sender.cause

    @property
    def root(self) -> str:
        """The id of the first wave of the request that it belongs to."""
        return self._sender.root

    @property
    def trace_id(self) -> str | None:
        """The trace that it belongs to (W3C Trace Context), as 32 hexadecimal digits."""
        return self._sender.trace_id

    @property
    def kind(self) -> str:
        """`event`, `command`, `query`, `response` or `broadcast`."""
        return self._sender.kind

    @property
    def amplitude(self) -> float:
        """How important it is, 0 to 1."""
        return self._sender.amplitude

    @property
    def key(self) -> str | None:
        """What it is about, if its source said so."""
        return self._sender.key

    @property
    def metadata(self) -> dict[str, str]:
        """Its entries of metadata."""
        return dict(self._sender.metadata)

    @property
    def age(self) -> float:
        """The time since it was emitted, in seconds."""
        return self._sender.age

    @property
    def expects_reply(self) -> bool:
        """Whether its source waits for an answer."""
        return self._sender.expects_reply

    async def reply(self, value: Value | None = None) -> None:
        """Answer a question. Raises `NotSentError` if nobody waits for an answer."""
        await wait_async(self._sender.reply(value))

    def __repr__(self) -> str:
        return f"<aether.Wave {self.channel!r} from {self.source!r} amplitude={self.amplitude:.2f}>"


class Vibrator(_Sends, AsyncIterator[Wave]):
    """A client of the bus: `async for wave in vibrator`, the strongest first.

    A wait that is cancelled loses no wave.
    """

    def __init__(self, name: str, stream: _native.Stream, sender: _native.Sender) -> None:
        super().__init__(sender)
        self.name = name
        self._stream = stream

    def close(self) -> None:
        """Receive no more."""
        self._stream.close()

    def __aiter__(self) -> Vibrator:
        return self

    async def __anext__(self) -> Wave:
        # Nothing is awaited between the look and the return, so a cancelled task has taken nothing.
        while (wave := self._stream.take()) is None:
            if not await wait_async(self._stream.ready()):
                raise StopAsyncIteration
        return Wave(wave)

    def __repr__(self) -> str:
        return f"<aether.Vibrator {self.name!r}>"


class Bus:
    """The connection with a medium."""

    def __init__(self, native: _native.Bus, medium: str) -> None:
        self._native = native
        self.medium = medium

    async def vibrator(
        self, name: str, *, resonates: Iterable[str] = (), group: str | None = None
    ) -> Vibrator:
        """Make a vibrator that hears the channels of some patterns, such as `orders.*`.

        Of several vibrators in one `group`, one hears each wave.
        """
        patterns = [resonates] if isinstance(resonates, str) else list(resonates)
        return Vibrator(name, *await wait_async(self._native.vibrator(name, patterns, group)))

    def serve(self, service: Service) -> Serving:
        """Serve, within `async with bus.serve(service)`. `service.run(bus)` serves until it is cancelled."""
        from aether._service import Serving

        return Serving(self._native, service)

    def account(self) -> str:
        """Return what became of the waves that were sent and received, as a text of two lines."""
        sent, received = self._native.account()
        return f"sent: {sent}\nreceived: {received}"

    async def close(self) -> None:
        """Send what waits, and leave. What may be lost goes to the log `aether`."""
        lost = await wait_async(self._native.close())
        LOG.info("%s", self.account())
        if lost is not None:
            LOG.warning("%s", lost)

    def __repr__(self) -> str:
        return f"<aether.Bus {self.medium!r}>"


def connect(
    medium: str = "lan:",
    *,
    secret: str | PathLike[str] | None = None,
    peers: Iterable[str] = (),
    program: str | None = None,
) -> Pending[Bus]:
    """Connect to a message bus: `async with aether.connect("nats://127.0.0.1:4222") as bus`.

    `medium`, `secret` and `peers` are those of `aether.open`; `program` is the name that others see.
    Raises `MediumError`.
    """

    async def begin() -> Bus:
        of = Medium.of(medium, secret, peers)
        return Bus(await wait_async(of.connecting(program)), of.address)

    return Pending(begin, Bus.close)
