"""Measures the package: `python tests/benchmark.py`, as root for the two machines."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import aether
from machine import SECONDS, Network

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = 20_000


def microseconds(call: Callable[[int], object]) -> float:
    """Return the median of five runs, for one call."""
    runs = []
    for _ in range(5):
        began = time.perf_counter()
        for number in range(TIMES):
            call(number)
        runs.append((time.perf_counter() - began) / TIMES * 1e6)
    return statistics.median(runs)


def report(what: str, figure: float, unit: str, goal: str) -> None:
    """Print a figure beside its goal."""
    print(f"{what:<52} {figure:>10.2f} {unit:<4} (goal: {goal})", flush=True)


def local() -> None:
    """Measure calls in one process."""
    db = aether.open("bench", medium="local:")
    small, large = 24.5, {"lamps": [{"on": True, "level": i} for i in range(20)]}
    report('db["k"] = 24.5', microseconds(lambda n: db.__setitem__("k", small + n)), "us", "< 20 us")
    report('db["k"]', microseconds(lambda _: db["k"]), "us", "< 5 us")
    report('db["k"] = a dict of 500 bytes', microseconds(lambda _: db.__setitem__("d", large)), "us", "none")
    report('db["k"] of a dict of 500 bytes', microseconds(lambda _: db["d"]), "us", "none")
    for i in range(2000):
        db[f"many/{i}"] = i
    report('db["k"] = 1 beside 2,000 keys', microseconds(lambda n: db.__setitem__("k", n)), "us", "< 20 us")
    counter = db.counter("c")
    report("counter.add(1)", microseconds(lambda _: counter.add(1)), "us", "none")
    db.close()


def imports() -> None:
    """Measure the import, in new processes, without the start of Python."""
    runs = []
    for _ in range(11):
        code = "import time; t = time.perf_counter(); import aether; print(time.perf_counter() - t)"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        runs.append(float(ended.stdout) * 1000)
    report("import aether", statistics.median(runs), "ms", "< 150 ms")


def two_machines() -> None:
    """Measure between two network namespaces."""
    with Network(2, "b") as network:
        a, b = network.machine(0), network.machine(1)
        try:
            a.open("replica='a'")
            a.do("db['k'] = 0; import time")
            b.do("import time; began = time.perf_counter()")
            b.open("replica='b'")
            b.until("db.get('k') == 0")
            report("found and synced after the start", b.value("time.perf_counter() - began"), "s", "< 1 s")
            b.do("from collections import deque; seen = deque(); watch = db.watch('k')")
            a.do("echo = db.watch('echo')")
            b.start("[db.__setitem__('echo', watch.next(60).new) for _ in range(500)]", is_expression=True)
            a.do(
                f"""
times = []
for i in range(1, 501):
    began = time.perf_counter(); db['k'] = i
    while echo.next({SECONDS}).new != i: pass
    times.append((time.perf_counter() - began) * 1000)
times.sort()
"""
            )
            b.answer()
            report("A to B and back, half of it, p50", a.value("times[250] / 2"), "ms", "< 5 ms")
            report("A to B and back, half of it, p99", a.value("times[495] / 2"), "ms", "none")
            a.do("began = time.perf_counter()")
            a.do("for i in range(3000): db[f'burst/{i}'] = i")
            b.until("len(db.keys('burst/*')) == 3000", 60)
            report("3,000 writes in a burst are there", a.value("time.perf_counter() - began"), "s", "none")
            b.freeze()
            a.do("began = time.perf_counter(); db['frozen'] = 1; took = (time.perf_counter() - began) * 1000")
            report("a write beside a frozen peer", a.value("took"), "ms", "< 10 ms")
        finally:
            a.kill()
            b.kill()


if __name__ == "__main__":
    print(f"aether {aether.__version__}, Python {sys.version.split()[0]}, {os.cpu_count()} processors")
    imports()
    local()
    if os.geteuid() == 0:
        two_machines()
