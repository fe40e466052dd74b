"""A chat without a server: lines of all, the last hundred of them, and who is there.

`python chat.py ada`.
"""

from __future__ import annotations

import asyncio
import sys
import time

import aether

LAST = 100


async def show(db: aether.AsyncField, me: str) -> None:
    """Print the lines of the others: what was said before, and what is said from now on."""
    watch = db.watch("line/*")
    before = dict(db.items("line/*"))
    for line in before.values():
        tell(line, me)
    async for change in watch:
        if change.new is not None and change.key not in before:
            tell(change.new, me)


def tell(line: dict[str, str], me: str) -> None:
    """Print a line of somebody else."""
    if line["who"] != me:
        print(f"{line['who']}: {line['text']}", flush=True)


async def chat(me: str) -> None:
    """Send each line of the input."""
    async with aether.aopen("chat", replica=me) as db:
        db.presence[me] = None
        showing = asyncio.create_task(show(db, me))
        while text := await asyncio.to_thread(sys.stdin.readline):
            # Keys in the order of time; two lines of one moment have different names.
            db[f"line/{time.time():.6f}/{me}"] = {"who": me, "text": text.rstrip()}
            for old in list(db.keys("line/*"))[:-LAST]:
                db.pop(old, None)
        showing.cancel()


if __name__ == "__main__":
    asyncio.run(chat(sys.argv[1] if len(sys.argv) > 1 else "guest"))
