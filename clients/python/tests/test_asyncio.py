"""Shared variables in asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

import aether

if TYPE_CHECKING:
    from collections.abc import Coroutine


def run(work: Coroutine[object, object, None]) -> None:
    """Run a test in a loop with all checks of asyncio."""
    asyncio.run(asyncio.wait_for(work, 240), debug=True)


def test_changes_are_awaited() -> None:
    async def work() -> None:
        async with aether.aopen("loop", medium="local:") as db:
            watch = db.watch("lamp/*")

            async def read() -> list[tuple[str, object]]:
                seen = []
                async for change in watch:
                    seen.append((change.key, change.new))
                    if change.key == "lamp/last":
                        break
                return seen

            reader = asyncio.create_task(read())
            await asyncio.sleep(0)
            db["lamp/1"] = 1
            db["other"] = 1
            db["lamp/last"] = 2
            assert await reader == [("lamp/1", 1), ("lamp/last", 2)]
            with pytest.raises(aether.StoreError):
                await db.durable()
        with pytest.raises(aether.ClosedError):
            db["k"]
        assert [change async for change in watch] == []

    run(work())


def test_a_cancelled_wait_loses_nothing() -> None:
    async def work() -> None:
        db = await aether.aopen("cancelled", medium="local:")
        watch = db.watch()
        seen: list[int] = []
        written = 2000

        async def write() -> None:
            for i in range(written):
                db[f"k/{i}"] = i
                if i % 7 == 0:
                    await asyncio.sleep(0)

        writer = asyncio.create_task(write())
        while len(seen) < written:
            reader = asyncio.ensure_future(watch.__anext__())
            # Cancelled in every state that it can have.
            for _ in range(len(seen) % 4):
                await asyncio.sleep(0)
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                seen.append((await reader).new)
            with contextlib.suppress(asyncio.TimeoutError):
                seen.append((await asyncio.wait_for(watch.__anext__(), 0.001)).new)
        assert seen == list(range(written))
        await writer
        await db.close()

    run(work())


def test_waits_end_by_their_time_out() -> None:
    async def work() -> None:
        async with aether.aopen("alone", medium="local:") as db:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(db.agreed(1), 0.05)
            other = await aether.aopen("alone", medium="local:", replica="other")
            await asyncio.wait_for(db.agreed(1), 30)
            assert [peer.name for peer in db.peers()] == ["other"]
            await other.close()
            await other.close()

    run(work())


def test_callbacks_run_in_the_loop_in_order() -> None:
    async def work() -> None:
        async with aether.aopen("calls", medium="local:") as db:
            done = asyncio.Event()
            seen: list[tuple[object, object]] = []

            @db.on_change("k")
            async def changed(key: str, old: object, new: object, by: str) -> None:
                assert threading.current_thread() is threading.main_thread()
                assert (key, bool(by)) == ("k", True)
                await asyncio.sleep(0.001)
                seen.append((old, new))
                if new == 99:
                    done.set()

            for i in range(100):
                db["k"] = i
            await done.wait()
            # Each begins where the one before has ended.
            assert [old for old, _ in seen[1:]] == [new for _, new in seen[:-1]]
            db.off(changed)

    run(work())


def test_an_opening_that_is_cancelled_leaves_nothing_open() -> None:
    async def work() -> None:
        opening = asyncio.ensure_future(aether.aopen("late", medium="local:")._begin())
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        async with aether.aopen("late", medium="local:") as db:
            db["k"] = 1

    run(work())


def test_the_blocking_face_works_while_a_loop_runs() -> None:
    async def work() -> None:
        with aether.open("notebook", medium="local:") as db:
            db["k"] = 1
            assert db["k"] == 1
            with pytest.raises(TimeoutError):
                db.agreed(1, timeout=0.01)

    run(work())
