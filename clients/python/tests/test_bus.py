"""Waves, vibrators and services."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

import aether

if TYPE_CHECKING:
    from collections.abc import Coroutine


def run(work: Coroutine[object, object, None]) -> None:
    """Run a test in a loop with all checks of asyncio."""
    asyncio.run(asyncio.wait_for(work, 240), debug=True)


def test_waves_have_values_and_strength() -> None:
    async def work() -> None:
        async with aether.connect("local:", program="shop") as bus:
            stock = await bus.vibrator("stock", resonates=["orders.*"])
            shop = await bus.vibrator("shop")
            await shop.emit("orders.created", {"sku": "lamp"}, amplitude=0.9, key="17", kind="command")
            await shop.emit("other.created", 1)
            await shop.emit("orders.photo", aether.Bytes(b"\xff"))
            wave = await anext(stock)
            assert (wave.channel, wave.value, wave.key) == ("orders.created", {"sku": "lamp"}, "17")
            assert (wave.kind, round(wave.amplitude, 1)) == ("command", 0.9)
            assert wave.source.startswith("shop@")
            assert (wave.content_type, wave.payload) == ("application/json", b'{"sku":"lamp"}')
            assert (wave.cause, wave.root, wave.expects_reply) == (None, wave.id, False)
            photo = await anext(stock)
            assert (photo.value, type(photo.value)) == (b"\xff", aether.Bytes)
            with pytest.raises(aether.RefusedError):
                await shop.emit("not a channel", 1)
            with pytest.raises(aether.RefusedError, match="kind of waves"):
                await shop.emit("orders.x", 1, kind="wish")
            with pytest.raises(aether.RefusedError):
                await shop.emit("orders.x", 1, amplitude=2)
            with pytest.raises(TypeError):
                await shop.emit("orders.x", object())  # type: ignore[arg-type]
            stock.close()
            assert [wave async for wave in stock] == []
            assert "received: waves: 2 offered = 2 delivered" in bus.account()

    run(work())


def test_strong_waves_come_first_and_a_cancelled_wait_takes_none() -> None:
    async def work() -> None:
        async with aether.connect("local:") as bus:
            stock = await bus.vibrator("stock", resonates=["orders.*"])
            shop = await bus.vibrator("shop")
            for _ in range(20):
                reader = asyncio.ensure_future(anext(stock))
                await asyncio.sleep(0)
                reader.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reader
            strengths = [0.1, 0.9, 0.5, 0.2]
            for strength in strengths:
                await shop.emit("orders.x", strength, amplitude=strength)
            seen = [(await anext(stock)).value for _ in strengths]
            assert sorted(seen) == sorted(strengths)
            # One may have been taken before the strongest came.
            assert 0.9 in seen[:2]

    run(work())


def test_a_service_answers_and_what_follows_names_its_cause() -> None:
    async def work() -> None:
        service = aether.Service("pricer", group="pricer", retries=3, time_out=60)
        # Of a service of its own: no other handler may be too slow, however busy the machine is.
        hasty = aether.Service("hasty", time_out=0.3)
        attempts = {"flaky": 0}

        @service.on_query("prices.of")
        async def price(wave: aether.Wave) -> int:
            await wave.emit("prices.asked", wave.value)
            answer = await wave.ask("taxes.of", wave.value, timeout=120)
            return 3900 + int(answer.value)

        @service.on_query("taxes.of")
        def tax(wave: aether.Wave) -> int:
            return len(wave.value)

        @service.on_query("prices.refused")
        async def refuse(_: aether.Wave) -> None:
            raise aether.RefusedError("no such article")

        @service.on("prices.flaky")
        async def flaky(wave: aether.Wave) -> None:
            attempts["flaky"] += 1
            if attempts["flaky"] < 3:
                raise RuntimeError("on purpose")
            await wave.emit("prices.done", attempts["flaky"])

        @hasty.on("prices.slow")
        async def slow(wave: aether.Wave) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await wave.emit("prices.cancelled")
                raise

        async with aether.connect("local:") as bus, bus.serve(service) as serving, bus.serve(hasty):
            witness = await bus.vibrator("witness", resonates=["prices.asked", "prices.done"])
            cancelled = await bus.vibrator("slow", resonates=["prices.cancelled"])
            shop = await bus.vibrator("shop", resonates=["prices.order"])
            await witness.emit("prices.order", "lamp")
            order = await anext(shop)
            answer = await order.ask("prices.of", order.value, timeout=120)
            assert answer.value == 3904
            asked = await anext(witness)
            assert asked.value == "lamp"
            # The order caused the question, and the question the wave.
            assert asked.root == order.id
            assert asked.cause not in (None, order.id)
            assert asked.trace_id == order.trace_id
            with pytest.raises(aether.NotAnsweredError, match="no such article"):
                await shop.ask("prices.refused", timeout=120)
            with pytest.raises(aether.NotAnsweredError):
                await shop.ask("prices.nobody", timeout=0.2)
            await shop.emit("prices.flaky")
            assert (await anext(witness)).value == 3
            await shop.emit("prices.slow", kind="command")
            assert (await anext(cancelled)).channel == "prices.cancelled"
        report = serving.report()
        assert report["received"] == sum(count for name, count in report.items() if name != "received")
        assert report["succeeded"] >= 3
        assert report["retried"] >= 2
        assert report["rejected"] == 1

    run(work())


def test_a_service_that_is_cancelled_ends_in_order() -> None:
    async def work() -> None:
        service = aether.Service("slow", grace=30)
        begun, released = asyncio.Event(), asyncio.Event()

        @service.on_query("slow.of")
        async def answer(wave: aether.Wave) -> object:
            begun.set()
            await released.wait()
            return wave.value

        async with aether.connect("local:") as bus:
            running = asyncio.create_task(service.run(bus))
            shop = await bus.vibrator("shop")
            question = asyncio.create_task(shop.ask("slow.of", 7, timeout=60))
            await begun.wait()
            running.cancel()
            released.set()
            assert (await question).value == 7
            with pytest.raises(asyncio.CancelledError):
                await running

    run(work())


def test_a_service_with_a_mistake_is_refused() -> None:
    async def work() -> None:
        async with aether.connect("local:") as bus:
            for service in [aether.Service(""), aether.Service("a", concurrency=0)]:
                service.on("x")(print)
                with pytest.raises(aether.RefusedError):
                    await service.run(bus)
        with pytest.raises(aether.MediumError):
            await aether.connect("nats://127.0.0.1:1")

    run(work())
