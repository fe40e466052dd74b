"""A service: answers questions for prices, and reports each order. `python pricer.py nats://127.0.0.1:4222`."""

from __future__ import annotations

import asyncio
import logging
import sys

import aether

PRICES = {"lamp": 3900, "bulb": 250}

service = aether.Service("pricer", group="pricer", retries=3, time_out=5)


@service.on_query("prices.of")
async def price(wave: aether.Wave) -> int:
    """Return the price of an article. A refusal reaches the one that asks, and is not tried again."""
    if wave.value not in PRICES:
        raise aether.RefusedError(f"there is no article {wave.value!r}")
    await wave.emit("prices.asked", wave.value, amplitude=0.2)
    return PRICES[wave.value]


@service.on("orders.created")
async def order(wave: aether.Wave) -> None:
    """Price an order. The wave that it emits names the order as its cause."""
    await wave.emit("orders.priced", {**wave.value, "price": PRICES[wave.value["article"]]}, amplitude=0.9)


async def main(medium: str) -> None:
    """Serve until Ctrl-C."""
    async with aether.connect(medium, program="pricer") as bus:
        await service.run(bus)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(main(sys.argv[1]))
