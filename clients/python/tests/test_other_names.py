"""The programs of two other libraries, by their names: P3, C2 and C3."""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import TYPE_CHECKING

import pytest

import aether
from aether.dsn import DSNodeConfig, DSNodeServer, Endpoint
from machine import NO_MULTICAST, SECONDS, SECRET, Machine, RemoteError
from program import Program

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from machine import Network, Room, Start


def node(machine: Machine, name: str, folder: Path, options: str = "", start: str = "") -> None:
    """Start a node as `node` on the port 8000 of its machine."""
    machine.do("import os, threading; from aether.dsn import *")
    patient(machine)
    machine.do(f"os.makedirs({str(folder)!r}, exist_ok=True); os.chdir({str(folder)!r})")
    machine.do(
        f"node = DSNodeServer.start(DSNodeConfig(node_id={name!r}, port=8000, aes_key={SECRET!r}, "
        f"{options or 'bootstrap_nodes=[]'}), {start})"
    )
    machine.do("db = node.node._session.db")


def patient(machine: Machine, seconds: float = SECONDS) -> None:
    """Let nodes wait longer for others than they do elsewhere, because the machine may be busy."""
    machine.do(f"import aether.dsn; aether.dsn.PATIENCE = {seconds}")


def run(stack: ExitStack, network: Network, at: int, folder: Path, code: str, *arguments: str) -> Program:
    """Run a program on a machine, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "program.py").write_text(code)
    inside = ["ip", "netns", "exec", network.space(at), "env", f"AETHER_LAN_SECRET={SECRET}"]
    program = Program(*inside, sys.executable, "-u", "program.py", *arguments, cwd=folder)
    stack.callback(program.end)
    return program


# The programs of the README of distributed-state-network, as they are called there; only the import differs.
QUICK_START = """
from aether.dsn import DSNodeServer, DSNodeConfig

node = DSNodeServer.start(DSNodeConfig(
    node_id="my_first_node",
    port=8000,
    bootstrap_nodes=[]
))
node.node.update_data("status", "online")
node.node.update_data("temperature", "72.5")
"""
SENSOR = """
import itertools, sys, time
from aether.dsn import DSNodeServer, DSNodeConfig
location, readings = "kitchen", itertools.cycle(range(20, 30))
def read_temperature_sensor(): return next(readings)

sensor_node = DSNodeServer.start(DSNodeConfig(
    node_id=f"sensor_{location}",
    port=8000,
    bootstrap_nodes=[{"address": "coordinator.local", "port": 8000}]
))
while True:
    temp = read_temperature_sensor()
    sensor_node.node.update_data("temperature", str(temp))
    sensor_node.node.update_data("timestamp", str(time.time()))
    time.sleep(1)
"""
MONITOR = """
import threading
from aether.dsn import DSNodeServer, DSNodeConfig
updated = threading.Event()
monitor = DSNodeServer.start(
    DSNodeConfig(node_id="monitor", port=8000, bootstrap_nodes=[]), update_callback=updated.set)

while True:
    updated.wait()
    updated.clear()
    for node_id in monitor.node.peers():
        if node_id.startswith("sensor_"):
            temp = monitor.node.read_data(node_id, "temperature")
            print(f"{node_id}: {temp} F")
"""


def test_c3_1_and_p3_the_quick_start_of_dsn_runs(network: Room, stack: ExitStack, tmp_path: Path) -> None:
    room = network(1)
    ending = 'print(node.node.read_data("my_first_node", "temperature"), node.peers())\n'
    program = run(stack, room, 0, tmp_path / "a", QUICK_START + ending)
    program.line(r"^72\.5 \['my_first_node'\]$")
    assert program.end_of_input() == 0


def test_p3_the_sensors_and_the_monitor_of_dsn_run(network: Room, stack: ExitStack, tmp_path: Path) -> None:
    room = network(2)
    monitor = run(stack, room, 0, tmp_path / "a", MONITOR)
    sensor = run(stack, room, 1, tmp_path / "b", SENSOR)
    monitor.line(r"^sensor_kitchen: 2\d F$")
    assert "KeyboardInterrupt" in sensor.interrupt()
    # Another sensor of the same name, which has another key, is not taken for the first one.
    forger = run(stack, room, 1, tmp_path / "c", SENSOR.replace("range(20, 30)", "range(90, 100)"))
    monitor.line(r"IdentityError: another one claims the name 'sensor_kitchen'")
    forger.interrupt()
    run(stack, room, 1, tmp_path / "b", SENSOR.replace("range(20, 30)", "range(50, 60)"))
    monitor.line(r"^sensor_kitchen: 5\d F$")


def test_c3_6_there_is_no_network_without_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AETHER_LAN_SECRET", raising=False)
    monkeypatch.delenv("AETHER_LAN_SECRET_FILE", raising=False)
    config = DSNodeConfig("a", str(tmp_path), 0, bootstrap_nodes=[])
    with pytest.raises(aether.MediumError, match="needs a secret"):
        DSNodeServer.start(config)
    with pytest.raises(aether.MediumError, match="secret"):
        DSNodeServer.start(DSNodeConfig("a", str(tmp_path), 0, "127.0.0.1", "bad.key", []))
    with pytest.raises(aether.MediumError, match="needs a secret"):
        aether.Aether().activate()
    assert len(DSNodeServer.generate_key()) == 64
    assert DSNodeServer.generate_key() != DSNodeServer.generate_key()


def test_p3_a_config_of_dsn_is_read_from_a_dict() -> None:
    address = {"address": "10.0.0.1", "port": 8001}
    data = {"node_id": "n", "port": 8000, "bootstrap_nodes": [address]}
    config = DSNodeConfig.from_dict(data)
    assert (config.credential_dir, config.network_ip, config.aes_key) == ("credentials", "127.0.0.1", None)
    assert config.bootstrap_nodes == [Endpoint("10.0.0.1", 8001)]
    assert Endpoint("10.0.0.1", 8001).to_json() == address
    assert Endpoint("10.0.0.1", 8001).to_string() == "10.0.0.1:8001"
    for key in data:
        with pytest.raises(KeyError, match=key):
            DSNodeConfig.from_dict({name: value for name, value in data.items() if name != key})


@pytest.mark.parametrize("name", ["../../../PWN", "/etc/PWN", "", "..", "a\0b", "n" * 201])
def test_c2_9_a_name_of_a_node_that_is_no_name_of_a_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(aether.RefusedError, match="cannot be the name of a node"):
        DSNodeServer.start(DSNodeConfig(name, str(tmp_path / "c"), 0, aes_key=SECRET))
    assert not list(tmp_path.rglob("*"))


def test_c2_9_names_from_the_network_write_nothing_outside(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    node(a, "a", tmp_path / "a")
    b.open(name="dsn")
    key = "ab" * 32
    for claim in ("{'node': '../../../PWN'}", "{'node': 7}", "7", "{'node': 'n' * 300}", "{'node': 'a'}"):
        b.do(f"db['claim/{key}'] = {claim}")
    b.do("db['claim/no-key'] = {'node': 'x'}; db['marker'] = 1")
    a.until("db.get('marker') == 1")
    # It lives, and takes one that is in order.
    c = start(room, 1)
    node(c, "c", tmp_path / "c")
    a.until("node.peers() == ['a', 'c']")
    names = sorted(path.name for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert names == ["a.identity", "c.pub", "state.field"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


def test_c3_3_a_name_that_is_taken_keeps_nobody_out_whose_key_is_known(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(3)
    victim, forger, owner = (start(room, at) for at in range(3))
    credentials = tmp_path / "owner" / "credentials" / "owner"
    credentials.mkdir(parents=True)
    owner.do(f"key = aether.Identity.create('owner', {str(credentials / 'owner.identity')!r}).key")
    known = tmp_path / "victim" / "credentials" / "victim" / "owner.pub"
    known.parent.mkdir(parents=True)
    known.write_text(owner.value("key"))
    node(victim, "victim", tmp_path / "victim")
    node(forger, "owner", tmp_path / "forger")
    forger.do("node.update_data('temperature', '99')")
    victim.until("len(db.items('claim/*')) == 2")
    forger.do("node.node._session.db['marker'] = 1")
    victim.until("db.get('marker') == 1")
    assert victim.value("node.peers(), node.read_data('owner', 'temperature')") == [["victim"], None]
    node(owner, "owner", tmp_path / "owner")
    owner.do("node.update_data('temperature', '21.5')")
    victim.until("node.read_data('owner', 'temperature') == '21.5' and node.peers() == ['victim', 'owner']")


def test_c3_14_the_first_node_can_go(network: Room, start: Start, tmp_path: Path) -> None:
    room = network(3)
    first, a, b = (start(room, at) for at in range(3))
    node(first, "first", tmp_path / "first")
    bootstrap = "bootstrap_nodes=[Endpoint('10.77.0.1', 8000)]"
    node(a, "a", tmp_path / "a", bootstrap, "disconnect_callback=lambda: left.append(1)")
    a.do("left = []")
    assert a.value("node.peers()") == ["a", "first"]
    first.kill()
    a.until("node.peers() == ['a']")
    node(b, "b", tmp_path / "b", "bootstrap_nodes=[Endpoint('10.77.0.2', 8000)]")
    b.do("node.update_data('n', '1')")
    a.until("node.peers() == ['a', 'b'] and node.read_data('b', 'n') == '1'")
    assert a.value("left") == [1]


def test_c3_15_a_message_to_a_node_arrives_once_and_is_signed(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(3)
    a, b, c = (start(room, at) for at in range(3))
    node(a, "a", tmp_path / "a")
    node(b, "b", tmp_path / "b", "")
    b.do("got = []; node.set_receive_cb(got.append)")
    a.until("node.peers() == ['a', 'b']")
    b.until("node.peers() == ['b', 'a']")
    assert a.value("node.send_to_node('b', b'hello')") == "OK"
    assert b.value("[str(data, 'ascii') for data in got]") == ["hello"]
    # A callback that fails is the affair of the receiver.
    b.do("def fail(data): got.append(data); raise ValueError('no')")
    b.do("node.set_receive_cb(fail)")
    assert a.value("node.node.send_to_node('b', b'again')") == "OK"
    assert b.value("len(got)") == 2
    with pytest.raises(RemoteError, match="no node 'nobody' is known here, but a, b") as unknown:
        a.do("node.send_to_node('nobody', b'hello')")
    assert "NotSentError" in unknown.value.kinds
    # C3-4: one who has the secret sends what it has recorded, changes a bit, and signs with its own key.
    a.do("sent = []; ask = node.node._session.sender.ask")
    a.do(
        "class Recorder:\n"
        "    def ask(self, content, seconds): sent.append(content); return ask(content, seconds)\n"
        "node.node._session = node.node._session._replace(sender=Recorder())"
    )
    assert a.value("node.send_to_node('b', b'third')") == "OK"
    channel, message = a.value("sent[0][0]"), a.value("sent[0][1].hex()")
    c.do(
        "import asyncio\n"
        "async def ask(channel, payload):\n"
        f"    async with aether.connect('lan:', secret={SECRET!r}) as bus:\n"
        "        v = await bus.vibrator('c')\n"
        "        return (await v.ask(channel, aether.Bytes(payload), timeout=120)).payload.decode()\n"
        f"channel, message = {channel!r}, bytes.fromhex({message!r})"
    )
    assert b.value("len(got)") == 3
    assert c.value("asyncio.run(ask(channel, message))") == "OK"
    assert b.value("len(got)") == 3
    forged = {
        "the signature of this message is wrong": "message[:-1] + b'x'",
        "the sender of this message is not known here": "message[:64] + bytes(32) + message[96:]",
    }
    for refusal, payload in forged.items():
        with pytest.raises(RemoteError, match=refusal):
            c.do(f"asyncio.run(ask(channel, {payload}))")
    with pytest.raises(RemoteError, match="not known here"):
        c.do("asyncio.run(ask(channel, b''))")
    assert b.value("len(got)") == 3


def test_c3_12_and_17_a_node_that_starts_again_has_its_state_and_its_port(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    node(a, "a", tmp_path / "a", "network_ip='10.77.0.1'", "disconnect_callback=lambda: left.set()")
    a.do("left = threading.Event()")
    node(b, "b", tmp_path / "b")
    b.do("node.update_data('temperature', '21.5')")
    a.until("node.peers() == ['a', 'b'] and node.read_data('b', 'temperature') == '21.5'")
    assert b.value("node.read_data('b', 'temperature'), node.read_data('b', 'none')") == ["21.5", None]
    b.until("node.peers() == ['b', 'a']")
    assert b.value("node.node.connection_from_node('a').to_string()") == "10.77.0.1:8000"
    assert b.value("node.node.my_con().to_json()") == {"address": "127.0.0.1", "port": 8000}
    with pytest.raises(RemoteError) as unknown:
        a.value("node.read_data('nobody', 'temperature')")
    assert "KeyError" in unknown.value.kinds
    assert b.value("node.is_shut_down(), node.node_id()") == [False, "b"]
    b.do("node.stop(); node.stop()")
    assert b.value("node.is_shut_down()") is True
    assert a.value(f"left.wait({SECONDS})") is True
    a.until("node.peers() == ['a']")
    # In the same process, on the same port.
    node(b, "b", tmp_path / "b")
    assert b.value("node.read_data('b', 'temperature')") == "21.5"
    a.until("node.peers() == ['a', 'b']")
    mode = stat.S_IMODE((tmp_path / "b" / "credentials" / "b" / "b.identity").stat().st_mode)
    assert mode == 0o600
    # Another process with this name and folder is refused.
    c = start(room, 1)
    with pytest.raises(RemoteError) as twice:
        node(c, "b", tmp_path / "b", "")
    assert {"StoreError", "MediumError"} & set(twice.value.kinds)


def test_c3_9_an_update_waits_for_nobody(network: Room, start: Start, tmp_path: Path) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    node(a, "a", tmp_path / "a")
    node(b, "b", tmp_path / "b")
    a.until("node.peers() == ['a', 'b']")
    b.freeze()
    a.do(
        """
import time
times = []
for i in range(100):
    began = time.perf_counter(); node.update_data('n', str(i)); times.append(time.perf_counter() - began)
"""
    )
    assert a.value("sorted(times)[50]") < 0.01
    b.thaw()
    b.until("node.read_data('a', 'n') == '99'")


def test_c2_13_a_node_is_joined_by_its_address(network: Room, start: Start, tmp_path: Path) -> None:
    room = network(2)
    for at in range(2):
        room.rules(at, NO_MULTICAST)
    a, b = start(room, 0), start(room, 1)
    node(a, "a", tmp_path / "a")
    node(b, "b", tmp_path / "b")
    assert b.value("node.peers()") == ["b"]
    b.do("node.node.bootstrap(Endpoint('10.77.0.1', 8000)); db = node.node._session.db")
    b.until("node.peers() == ['b', 'a']")
    c = start(room, 1)
    c.do("from aether.dsn import *")
    patient(c)
    c.do(
        f"config = DSNodeConfig('c', {str(tmp_path / 'c')!r}, 8001, '127.0.0.1', {SECRET!r}, "
        "[Endpoint('10.77.0.1', 8000)]); node = DSNodeServer.start(config)"
    )
    # The start has waited for one of them.
    assert len(c.value("node.peers()")) > 1
    c.do("db = node.node._session.db")
    c.until("node.peers() == ['c', 'a', 'b']")
    patient(c, 1)
    with pytest.raises(RemoteError, match="no other node with this secret is found at"):
        c.do("node.node.bootstrap(Endpoint('10.77.0.9', 8000))")


# The console of the README of aether-sdk: each program has a folder of its own.
CONSOLE = """
import aether, sys, os, code
pathpc = os.path.join(os.getcwd(), sys.argv[1])
if not os.path.exists(pathpc):
    os.mkdir(pathpc)
if __name__ == "__main__":
    with aether.Aether() as ae:
        code.interact(local=locals(), banner="ready")
"""


def test_p3_the_console_of_aether_sdk_runs(network: Room, stack: ExitStack, tmp_path: Path) -> None:
    room = network(2)
    one = run(stack, room, 0, tmp_path / "a", CONSOLE, "pc1")
    two = run(stack, room, 1, tmp_path / "b", CONSOLE, "pc2")
    for console, name in [(one, "pc1"), (two, "pc2")]:
        console.line("^ready")
        console.write(f"ae.pool({name!r}) is ae, ae.pool_folder_name, ae.running, ae.port")
        console.line(rf"\(True, '{name}', True, 5000\)")
    two.write("changes = ae._mirror.events(); print('watching')")
    two.line("watching")
    one.write("ae.send({'clave': 'valor'}, 'archivo.json'); ae.sync(); ae.sync('archivo.json')")
    two.write("print('it', changes.next(120).kind)")
    two.line("it written")
    file = tmp_path / "b" / "pc2" / "archivo.json"
    assert json.loads(file.read_text()) == {"clave": "valor"}
    assert file.read_text() == '{\n    "clave": "valor"\n}'
    two.write("seen = ae._db.watch('source'); print('watches')")
    two.line("watches")
    two.write("print('has', ae['source'] if 'source' in ae else seen.next(120).new)")
    one.write("ae['source'] = 'data'")
    two.line("has data")
    for console in (one, two):
        assert console.end_of_input() == 0


def test_p3_the_steps_of_aether_sdk_run(network: Room, start: Start, tmp_path: Path) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    for machine, name in [(a, "a"), (b, "b")]:
        machine.do("from aether import Aether")
        machine.do(f"pc = Aether(5000, secret_key={SECRET!r}); pc.node_name = {name!r}")
        machine.do(f"pc.activate(); pc.pool({str(tmp_path / name / 'data')!r}, distinct=True); db = pc._db")
        machine.do("events = pc._mirror.events()")
    b.do("import threading; on = threading.Event(); changes = []")
    b.do("@pc.on_change('lamp')\ndef lamp(key, old, new, by): changes.append([key, old, new]); on.set()")
    a.do("pc['lamp'] = 'on'; pc.send([1, 2], 'room/list.json')")
    assert b.value(f"on.wait({SECONDS})") is True
    assert b.value("changes") == [["lamp", None, "on"]]
    received = tmp_path / "b" / "data" / "a" / "data" / "room" / "list.json"
    b.do(f"until_event(events, {f'Path({str(received)!r}).exists()'!r})")
    assert json.loads(received.read_text()) == [1, 2]
    a.do("del pc['lamp']; pc.sync(); pc.close(); pc.close()")
    b.until("'lamp' not in pc and list(pc) == []")
    assert a.value("pc.running") is False
    with pytest.raises(RemoteError, match=r"call activate\(\)"):
        a.do("pc['lamp'] = 'on'")
    # Another number is another network.
    a.do(f"other = Aether(port=5001, secret_key={SECRET!r}); other.activate(); other['lamp'] = 'off'")
    b.do("pc['marker'] = 1")
    assert b.value("dict(pc)") == {"marker": 1}
    a.do("other.close()")


def test_c2_9_and_4_what_the_pool_refuses(tmp_path: Path) -> None:
    pc = aether.Aether(port=os.getpid(), secret_key=SECRET)
    with pytest.raises(aether.ClosedError):
        pc.send(1, "a.json")
    with pc:
        with pytest.raises(aether.RefusedError, match="name one with pool"):
            pc.sync()
        with pytest.raises(aether.RefusedError, match="name one with pool"):
            pc.send(1, "a.json")
        pc.pool(tmp_path / "pool")
        for name in ("../a.json", "/etc/a.json", "", ".", "a/../../b"):
            with pytest.raises(aether.RefusedError, match="leads out of the pool"):
                pc.send(1, name)
        for data in (float("nan"), object(), {1, 2}):
            with pytest.raises(aether.RefusedError, match="cannot be JSON"):
                pc.send(data, "a.json")
        with pytest.raises(FileNotFoundError):
            pc.sync("a.json")
        pc.send(1, "a.json")
        pc.sync("a.json")
        assert pc._mirror is not None
        assert pc._mirror.status().files == 1
        assert sorted(path.name for path in (tmp_path / "pool").iterdir()) == [".aether-mirror", "a.json"]
        # Another folder takes its place.
        pc.pool(tmp_path / "other")
        pc.sync()
        pc.send(2, "b.json")
        assert (pc.pool_folder_name, pc.pool_path) == ("other", tmp_path / "other")
        assert not (tmp_path / "pool" / "b.json").exists()
    with aether.Aether(port=os.getpid(), secret_key=SECRET) as pc:
        raise KeyboardInterrupt
    assert not pc.running
