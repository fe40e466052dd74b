"""A program that a test drives: it runs the code that it reads, a line of JSON each, and answers in JSON."""

from __future__ import annotations

import contextlib
import json
import queue
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import aether

# Not all that an expression is about is an event, or is done when its event comes.
AGAIN = 0.5


def until(db: aether.Field, condition: str, seconds: float = 120.0) -> bool:
    """Wait until an expression is true, and look again after each event of the field, and now and then."""
    events: queue.Queue[object] = queue.Queue()
    watches: list[aether.Watch[Any]] = [db.watch("*"), db.peer_events(), *_of_parts(db)]

    def pass_on(watch: aether.Watch[Any]) -> None:
        for item in watch:
            events.put(item)

    for watch in watches:
        threading.Thread(target=pass_on, args=[watch], daemon=True).start()
    is_over = threading.Event()

    def tick() -> None:
        # A wait with a time-out may look at the time of day, which is wrong in some tests.
        while not is_over.is_set():
            time.sleep(AGAIN)
            events.put(None)

    threading.Thread(target=tick, daemon=True).start()
    end = time.monotonic() + seconds
    try:
        while not eval(condition, names):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition} is not true after {seconds} s: {db!r} {db.status()}")
            events.get()
        return True
    finally:
        is_over.set()
        for watch in watches:
            watch.close()


def _of_parts(db: aether.Field) -> list[aether.Watch[Any]]:
    parts = [db.node(name) for name in db.nodes()]
    return [
        db.counter("visits").watch(),
        db.tags("seen").watch(),
        db.presence.watch(),
        *[db.watch("*", node=node.name) for node in parts],
    ]


def until_event(events: aether.Watch[Any], condition: str, seconds: float = 120.0) -> None:
    """Wait until an expression is true, and look again after each event, and now and then."""
    end = time.monotonic() + seconds
    while not eval(condition, names):
        if time.monotonic() > end:
            raise TimeoutError(f"{condition} is not true after {seconds} s")
        with contextlib.suppress(TimeoutError):
            events.next(AGAIN)


names: dict[str, Any] = {"aether": aether, "until": until, "until_event": until_event, "Path": Path}


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["is_expression"]:
                answer = {"value": eval(order["code"], names)}
            else:
                exec(order["code"], names)
                answer = {"value": None}
        except BaseException as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            answer = {"error": str(error), "kinds": kinds, "trace": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


main()
