"""C2 14: the same field and the same bus in Rust, in a tab of a browser and in Python, over a NATS server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import aether
from machine import Machine
from program import Program, free_port, tool

if TYPE_CHECKING:
    from contextlib import ExitStack

HERE = Path(__file__).parent
NONE = "none"


@pytest.fixture
def medium(stack: ExitStack) -> str:
    """Start a NATS server on a port that the system chooses."""
    server = Program(tool("AETHER_NATS_SERVER"), "-a", "127.0.0.1", "-p", "-1")
    stack.callback(server.end)
    port = server.line(r"client connections on 127\.0\.0\.1:(\d+)")[1]
    server.line("Server is ready")
    return f"nats://127.0.0.1:{port}"


@pytest.fixture
def gateway(stack: ExitStack, medium: str) -> str:
    """Start a gateway, which serves the field."""
    options = ["--field", "home", "--field-origin", "*", "--listen", "127.0.0.1:0"]
    program = Program(tool("AETHER_PROGRAM"), "gateway", "--medium", medium, *options)
    stack.callback(program.end)
    return program.line(r"gateway: (http://[^/]+)/")[1]


def command(medium: str, *arguments: str) -> str:
    """Run the command `aether`, which is a program in Rust, to its end."""
    program = [tool("AETHER_PROGRAM"), *arguments, "--medium", medium]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_c2_14_rust_a_tab_and_python_change_one_lamp(stack: ExitStack, medium: str, gateway: str) -> None:
    if NONE in (tool("AETHER_CHROMIUM"), tool("AETHER_NODE")):
        pytest.skip("the tests in a browser are switched off")
    db = stack.enter_context(aether.open("home", medium=medium, replica="python"))
    db.agreed(1, timeout=120)
    watch = db.watch("lamp/1")
    tab = Program(tool("AETHER_NODE"), str(HERE / "tab.mjs"), gateway, "home")
    stack.callback(tab.end)
    tab.line("^ready$")
    # Python, Rust, and the tab write in turns, and the others see it.
    db["lamp/1"] = {"on": True, "by": "python", "text": "ü \U0001f980"}
    tab.line(r'^changed lamp/1 \{.*"by":"python"')
    assert json.loads(command(medium, "field", "get", "home", "lamp/1")) == db["lamp/1"]
    assert watch.next(120).by == "python"
    command(medium, "field", "set", "home", "lamp/1", '{"on": false, "by": "rust"}')
    assert watch.next(120).new == {"on": False, "by": "rust"}
    tab.line(r'^changed lamp/1 \{.*"by":"rust"')
    tab.write('field.set("lamp/1", { on: true, by: "tab", number: 2 ** 53 - 1 })')
    assert watch.next(120).new == {"on": True, "by": "tab", "number": 2**53 - 1}
    assert json.loads(command(medium, "field", "get", "home", "lamp/1"))["by"] == "tab"
    # Counters and sets, too.
    db.counter("visits").add(2)
    sums = db.counter("visits").watch()
    tab.write('field.counter("visits").add(3)')
    assert sums.next(120) == 5
    members = db.tags("seen").watch()
    tab.write('field.members("seen").add("tab")')
    assert members.next(120) == ("tab", True)


def last_source(gateway: str, channel: str) -> object:
    """Wait until the gateway has heard a channel, and return who emitted on it last."""
    while True:
        with urllib.request.urlopen(f"{gateway}/api/status") as answer:
            heard = json.load(answer)["observed"]["channels"]
        for known in heard:
            if known["channel"] == channel:
                return known["last_source"]
        time.sleep(0.1)


def test_a_service_in_python_is_like_one_in_rust(medium: str, gateway: str) -> None:
    async def work() -> None:
        service = aether.Service("pricer", group="pricer")

        @service.on_query("prices.of")
        async def price(wave: aether.Wave) -> dict[str, object]:
            await wave.emit("prices.asked", wave.value)
            return {"article": wave.value, "price": 3900}

        async with aether.connect(medium, program="python-pricer") as bus, bus.serve(service) as serving:
            witness = await bus.vibrator("witness", resonates=["prices.asked"])
            # Rust asks Python.
            arguments = ("ask", "prices.of", '"lamp"')
            answer = await asyncio.to_thread(command, medium, *arguments)
            assert json.loads(answer.splitlines()[-1]) == {"article": "lamp", "price": 3900}
            asked = await anext(witness)
            assert (asked.value, asked.root, asked.cause) == ("lamp", asked.cause, asked.root)
            # The gateway lists it as any other service.
            described = await asyncio.to_thread(command, medium, "describe")
            assert "pricer" in described
            assert "prices.of" in described
            # It may hear the wave later than the witness.
            assert await asyncio.to_thread(last_source, gateway, "prices.asked") == "pricer"
            await witness.emit("prices.asked", "confirmed", confirmed=True)
        assert serving.report()["succeeded"] >= 1

    asyncio.run(asyncio.wait_for(work(), 240), debug=True)


def test_a_server_that_goes_away_for_a_moment_loses_nothing(stack: ExitStack) -> None:
    port = free_port(stack)

    def start() -> Program:
        server = Program(tool("AETHER_NATS_SERVER"), "-a", "127.0.0.1", "-p", str(port))
        stack.callback(server.end)
        server.line("Server is ready")
        return server

    server = start()
    medium = f"nats://127.0.0.1:{port}"
    a = stack.enter_context(aether.open("away", medium=medium, replica="a"))
    # Of another secret it would be another connection; this one shares it, so it is a program of its own.
    b = Machine()
    stack.callback(b.end)
    b.open(f"medium={medium!r}, replica='b'", name="away")
    a.agreed(1, timeout=120)
    server.end()
    a["written"] = "while the server is away"
    watch = a.watch("back")
    start()
    b.until("db.get('written') == 'while the server is away'")
    b.do("db['back'] = 1")
    assert watch.next(120).new == 1
