"""The sync engine (PyPI aether-zta) in one process, measured as `field.rs` and `field_network.rs` measure the field.

Prints one line for each figure: what, a tab, and the figure.
"""

import asyncio
import os
import time

from aether_core import MeshNode, SecurityLimits

# Not measured here, and at 100 messages a second its nodes lose each other after 200 writes.
LIMITS = SecurityLimits(messages_per_second=1e6, messages_burst=1_000_000, max_seen_stamps=10_000_000)

SET = 100_000
REGISTERS = 100_000
RING = 5
WRITES = 1000
PATIENCE_S = 60


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


async def memory():
    node = MeshNode("memory", limits=LIMITS)
    await node.start()
    before = resident()
    for n in range(REGISTERS):
        await node.set(f"key/{n:06}", "value")
    used = (resident() - before) / REGISTERS
    await node.stop()
    # As for the field: without 10 bytes of key and 7 of value.
    return f"{used - 17:.0f} bytes"


async def set_and_hook():
    seen = []

    async def on_op(op, source):
        seen.append(op.key)

    node = MeshNode("set", on_op=on_op, limits=LIMITS)
    await node.start()
    start = time.perf_counter()
    for n in range(SET):
        await node.set("key", n)
    took = time.perf_counter() - start
    assert len(seen) == SET
    await node.stop()
    return f"{took * 1e6 / SET:.2f} us"


async def ring():
    nodes = [MeshNode(f"node-{n}", limits=LIMITS) for n in range(RING)]
    for node in nodes:
        await node.start()
    for n, node in enumerate(nodes):
        peer = nodes[(n + 1) % RING]
        await node.connect_to(peer.host, peer.port)

    async def write(node):
        for n in range(WRITES):
            await node.set(f"{node.id}/{n}", n)
            if n % 10 == 9:
                await asyncio.sleep(0.001)

    await asyncio.gather(*(write(node) for node in nodes))
    written = time.perf_counter()
    while any(len(node.snapshot()) < RING * WRITES for node in nodes):
        if time.perf_counter() - written > PATIENCE_S:
            return f"not within {PATIENCE_S} s"
        await asyncio.sleep(0.005)
    took = time.perf_counter() - written
    for node in nodes:
        await node.stop()
    return f"{took * 1e3:.0f} ms"


async def main():
    # Memory first, while nothing was freed that could be used again.
    print(f"memory of a register beyond key and value\t{await memory()}", flush=True)
    print(f"`set` and the hook of an operation, one node\t{await set_and_hook()}", flush=True)
    what = f"a ring of {RING} nodes, {WRITES} writes each, nothing is shed: equal after the last write"
    print(f"{what}\t{await ring()}", flush=True)


asyncio.run(main())
