"""Runs the sync engine (PyPI aether-zta) as its documentation describes a relay: a mesh node, a ledger, a gateway.

Usage: sync_engine.py LEDGER [TOKEN [BENCH [HANDSHAKE]]]; the ledger "-" is none.

Prints the port of the gateway, and runs until its standard input is closed. With BENCH the limits on connections and
messages are lifted, because the benchmark measures neither. HANDSHAKE is the time that a client has to authenticate, in seconds.
"""

import asyncio
import sys
import time

from aether_core import AuthConfig, ChronoLedger, ClientGateway, MeshNode, SecurityLimits, compose_hooks


async def main(path, token=None, bench=None, handshake=None):
    ledger = None if path == "-" else ChronoLedger(path)
    limits = SecurityLimits(handshake_timeout_s=float(handshake)) if handshake else SecurityLimits()
    if bench:
        limits = SecurityLimits(
            max_connections_total=5000,
            max_connections_per_source=5000,
            messages_per_second=1e6,
            messages_burst=1_000_000,
            handshake_timeout_s=3600.0,
        )
    later = {}

    async def to_gateway(op, source):
        await later["gateway"].on_op(op, source)

    hooks = [ledger.on_op, to_gateway] if ledger else [to_gateway]
    mesh = MeshNode("relay", on_op=compose_hooks(*hooks), limits=limits)
    later["gateway"] = gateway = ClientGateway(mesh, "127.0.0.1", 0, limits=limits, auth=AuthConfig(token=token or None))
    await mesh.start()
    if ledger:
        start = time.perf_counter()
        replayed = await ledger.boot(mesh)
        print(f"replayed {replayed} in {time.perf_counter() - start}", flush=True)
    await gateway.start()
    print(f"port {gateway.port}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await gateway.stop()
    await mesh.stop()
    if ledger:
        await ledger.close()


asyncio.run(main(*sys.argv[1:]))
