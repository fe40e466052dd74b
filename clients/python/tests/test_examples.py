"""The programs of the chapter "From Python", each as it is there, on machines of their own."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from machine import SECRET
from program import Program

if TYPE_CHECKING:
    from contextlib import ExitStack

    from machine import Network, Room

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "python"


def start(stack: ExitStack, network: Network, at: int, folder: Path, *arguments: str) -> Program:
    """Run an example on a machine."""
    folder.mkdir(exist_ok=True)
    name, *rest = arguments
    inside = ["ip", "netns", "exec", network.space(at), "env", f"AETHER_LAN_SECRET={SECRET}"]
    example = Program(*inside, sys.executable, "-u", str(EXAMPLES / name), *rest, cwd=folder)
    stack.callback(example.end)
    return example


def test_a_thermometer_and_a_monitor(network: Room, stack: ExitStack, tmp_path: Path) -> None:
    room = network(2)
    monitor = start(stack, room, 0, tmp_path / "a", "monitor.py")
    thermometer = start(stack, room, 1, tmp_path / "b", "thermometer.py", "kitchen")
    monitor.line(r"^kitchen/temperature [\d.]+ by kitchen$")
    assert "KeyboardInterrupt" in thermometer.interrupt()
    assert (tmp_path / "b" / "kitchen.field").is_file()
    # Started again, it has its values, and goes on.
    start(stack, room, 1, tmp_path / "b", "thermometer.py", "kitchen")
    monitor.line(r"^kitchen/temperature [\d.]+ by kitchen$")


def test_flags_of_a_fleet(network: Room, stack: ExitStack, tmp_path: Path) -> None:
    room = network(3)
    fleet = [start(stack, room, at, tmp_path / str(at), "flags.py") for at in range(2)]
    for machine in fleet:
        machine.line("obeys {}")
    operator = start(stack, room, 2, tmp_path / "2", "flags.py", "dark_mode", "true")
    operator.line("^machines: ")
    assert operator.end_of_input() == 0
    for machine in fleet:
        machine.line("^flag/dark_mode is True$")
    # One that comes later, and one that was off, obey at once.
    fleet[0].interrupt()
    again = start(stack, room, 0, tmp_path / "0", "flags.py")
    again.line("obeys {'flag/dark_mode': True}")


def test_a_chat(network: Room, stack: ExitStack, tmp_path: Path) -> None:
    room = network(2)
    ada = start(stack, room, 0, tmp_path / "a", "chat.py", "ada")
    ada.write("is anybody there?")
    bob = start(stack, room, 1, tmp_path / "b", "chat.py", "bob")
    bob.line(r"^ada: is anybody there\?$")
    bob.write("yes")
    ada.line("^bob: yes$")
    ada.write("good")
    bob.line("^ada: good$")
    assert ada.end_of_input() == 0


def test_a_folder(network: Room, stack: ExitStack, tmp_path: Path) -> None:
    room = network(2)
    here = start(stack, room, 0, tmp_path / "a", "folder.py", "./pool")
    (tmp_path / "b" / "pool").mkdir(parents=True)
    (tmp_path / "b" / "pool" / "list.txt").write_text("a lamp")
    start(stack, room, 1, tmp_path / "b", "folder.py", "./pool")
    here.line(r"^written list\.txt ")
    assert (tmp_path / "a" / "pool" / "list.txt").read_text() == "a lamp"
    assert "KeyboardInterrupt" in here.interrupt()


def test_a_service(network: Room, stack: ExitStack, tmp_path: Path) -> None:
    room = network(2)
    pricer = start(stack, room, 0, tmp_path / "a", "pricer.py", "lan:")
    machine = room.machine(1)
    stack.callback(machine.end)
    machine.do(
        f"""
import asyncio
async def shop():
    async with aether.connect(secret={SECRET!r}) as bus:
        v = await bus.vibrator('shop', resonates=['orders.priced'])
        price = (await v.ask('prices.of', 'lamp', timeout=120)).value
        try: await v.ask('prices.of', 'moon', timeout=120)
        except aether.NotAnsweredError as error: refusal = str(error)
        await v.emit('orders.created', {{'article': 'bulb'}}, amplitude=0.9)
        return [price, refusal, (await anext(v)).value]
"""
    )
    price, refusal, priced = machine.value("asyncio.run(asyncio.wait_for(shop(), 240))")
    assert price == 3900
    assert "there is no article 'moon'" in refusal
    assert priced == {"article": "bulb", "price": 250}
    account = pricer.interrupt()
    assert re.search(r"pricer: .*'succeeded': 2, .*'rejected': 1", account), account
    assert "sent: waves: " in account


def test_ten_lines_on_two_machines(network: Room, stack: ExitStack) -> None:
    """Run the lines of the README as they are there."""
    readme = (ROOT / "clients" / "python" / "README.md").read_text()
    found = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    room = network(2)
    for at in range(2):
        machine = room.machine(at)
        stack.callback(machine.end)
        machine.do("import builtins; calls = []; print = lambda *line: calls.append(line)")
        machine.do(found[1])
        if at == 1:
            machine.do("db['lamp/1'] = 'on'; db.agreed(1, timeout=120)")
            machine.until("db.get('living_room/temperature') == 24.5")
            machine.until("calls[-1][:3] == ('lamp/1', None, 'on')")


def test_the_chapter_shows_the_examples_as_they_are() -> None:
    chapter = (ROOT / "docs" / "start" / "python.md").read_text()
    shown = re.findall(r"```python\n# (examples/python/\w+\.py)\n(.*?)```", chapter, re.DOTALL)
    assert len(shown) >= len(list(EXAMPLES.glob("*.py")))
    for name, lines in shown:
        assert lines in (ROOT / name).read_text(), f"{name} is not as the chapter shows it:\n{lines}"
