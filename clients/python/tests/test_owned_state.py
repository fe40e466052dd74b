"""C3: owned state, which only its owner writes."""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING

import pytest

from machine import RemoteError

if TYPE_CHECKING:
    from pathlib import Path

    from machine import Machine, Room, Start


def identity(machine: Machine, name: str, file: Path) -> str:
    """Make an identity, and return its public key."""
    machine.do(f"{name.replace('-', '_')} = aether.Identity.create({name!r}, {str(file)!r})")
    key = machine.value(f"{name.replace('-', '_')}.key")
    assert isinstance(key, str)
    return key


def test_c3_2_nobody_else_writes_the_state_of_an_owner(network: Room, start: Start, tmp_path: Path) -> None:
    room = network(3)
    a, b, victim = (start(room, at) for at in range(3))
    key = identity(a, "pi-a", tmp_path / "a.identity")
    # The key of another one of the same name.
    identity(b, "pi-a", tmp_path / "forged.identity")
    trust = f"trust={{'pi-a': {key!r}}}"
    b.open(f"replica='b', identity=pi_a, {trust}")
    victim.open(f"replica='victim', {trust}")
    with pytest.raises(RemoteError, match="not signed by the present key") as refused:
        b.do("db.own['temperature'] = 99")
    assert "RefusedError" in refused.value.kinds
    # One that trusts itself signs, and the victim, which has never met the owner, takes nothing.
    b.do("db.close()")
    b.open("replica='b', identity=pi_a")
    b.do("db.own['temperature'] = 99; db['marker'] = 1")
    victim.until("db.get('marker') == 1")
    with pytest.raises(RemoteError, match="took more"):
        b.do("db.agreed(1, timeout=1)")
    assert victim.value("dict(db.node('pi-a'))") == {}
    # The squatted name does not keep the owner out.
    a.open("replica='a', identity=pi_a")
    a.do("db.own['temperature'] = 21.5")
    victim.until("db.node('pi-a').get('temperature') == 21.5")
    assert victim.value("db.node('pi-a').key") == key


def test_c3_3_unknown_owners_are_not_visible(network: Room, start: Start, tmp_path: Path) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    identity(a, "pi-a", tmp_path / "a.identity")
    a.open("identity=pi_a")
    b.open()
    a.do("db.own['temperature'] = 21.5; db['marker'] = 1")
    b.until("db.get('marker') == 1")
    b.until("db.status()['unknown_owners'] > 0")
    assert b.value("db.nodes(), dict(db.node('pi-a'))") == [[], {}]
    with pytest.raises(RemoteError) as missing:
        b.value("db.node('pi-a')['temperature']")
    assert "KeyError" in missing.value.kinds


def test_c3_7_a_key_is_rotated_without_a_lost_update(network: Room, start: Start, tmp_path: Path) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    key = identity(a, "pi-a", tmp_path / "a.identity")
    a.open("identity=pi_a")
    b.open(f"trust={{'pi-a': {key!r}}}")
    a.do("db.own['n'] = 1; db.own['m'] = 1")
    b.until("dict(db.node('pi-a')) == {'n': 1, 'm': 1}")
    a.do(f"following = aether.Identity.create('pi-a', {str(tmp_path / 'next.identity')!r})")
    a.do("db.own.rotate(following); db.own['n'] = 2")
    b.until("dict(db.node('pi-a')) == {'n': 2, 'm': 1}")
    assert b.value("db.node('pi-a').key") == a.value("following.key") != key


def test_c3_8_a_frozen_peer_leaves_once_and_comes_back_once(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    key = identity(b, "pi-b", tmp_path / "b.identity")
    a.open(f"trust={{'pi-b': {key!r}}}")
    b.open("replica='b', identity=pi_b")
    a.until("len(db.peers()) == 1 and db.peers()[0].owner == 'pi-b'")
    a.do("events = db.peer_events()")
    b.freeze()
    assert a.value("events.next(60)[0], db.peers()") == ["left", []]
    a.do("db['while'] = 1")
    b.thaw()
    joined = a.value("events.next(60)")
    assert joined[0] == "joined"
    assert joined[1][:2] == ["b", "pi-b"]
    b.until("db.get('while') == 1")
    with pytest.raises(RemoteError) as nothing:
        a.value("events.next(2)")
    assert "TimeoutError" in nothing.value.kinds


def test_c3_9_a_write_beside_a_frozen_peer_returns_at_once(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    identity(a, "pi-a", tmp_path / "a.identity")
    a.open("identity=pi_a")
    b.open()
    a.until("len(db.peers()) == 1")
    b.freeze()
    a.do(
        """
import time
times = []
for i in range(101):
    began = time.perf_counter(); db.own['n'] = i; times.append(time.perf_counter() - began)
"""
    )
    assert a.value("sorted(times)[50]") < 0.01


def test_c3_10_one_change_of_2000_keys_costs_less_than_a_kibibyte(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    key = identity(a, "pi-a", tmp_path / "a.identity")
    a.open("identity=pi_a")
    b.open(f"trust={{'pi-a': {key!r}}}")
    a.do("for i in range(2000): db.own[f'k/{i}'] = 'x' * 100")
    b.until("len(db.node('pi-a')) == 2000", 240)
    a.do("db.agreed(1, timeout=120)")
    # What is sent anyway, such as beats, is the more the longer a change takes on a busy machine.
    began, before = time.monotonic(), room.sent_bytes(0)
    time.sleep(5)
    idle = (room.sent_bytes(0) - before) / (time.monotonic() - began)
    costs = []
    for i in range(9):
        began, before = time.monotonic(), room.sent_bytes(0)
        a.do(f"db.own['k/7'] = {i}")
        b.until(f"db.node('pi-a')['k/7'] == {i}")
        costs.append(room.sent_bytes(0) - before - idle * (time.monotonic() - began))
    # More beats than usual fall into some of them.
    assert sorted(costs)[4] < 1024, costs


def test_c3_11_threads_lose_no_update(network: Room, start: Start, tmp_path: Path) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    key = identity(a, "pi-a", tmp_path / "a.identity")
    a.open("identity=pi_a")
    b.open(f"trust={{'pi-a': {key!r}}}")
    a.do(
        """
import threading
def work(name):
    for i in range(1000):
        db.own[name] = i
        db[name] = i
        db.counter('visits').add(1)
        db.update('sum', lambda old: (old or 0) + 1)
threads = [threading.Thread(target=work, args=[f't/{n}']) for n in range(8)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
"""
    )
    for machine in (a, b):
        machine.until("db.get('sum') == 8000 and int(db.counter('visits')) == 8000", 240)
        machine.until("all(db.get(f't/{n}') == 999 for n in range(8))")
        machine.until("dict(db.node('pi-a')) == {f't/{n}': 999 for n in range(8)}")


def test_c3_12_an_owner_that_restarts_keeps_its_state(start: Start, tmp_path: Path) -> None:
    store = f"medium='local:', store={str(tmp_path / 'a.field')!r}, identity={str(tmp_path / 'a.identity')!r}"
    a = start()
    identity(a, "pi-a", tmp_path / "a.identity")
    a.open(store)
    a.do("db.own['n'] = 7; db.durable(120)")
    a.kill()
    again = start()
    again.open(store)
    assert again.value("dict(db.own)") == {"n": 7}
    again.do("db.own['n'] = 8; del db.own['n']; db.own['m'] = 1")
    assert again.value("dict(db.own)") == {"m": 1}
    # Another handle reads the identity again, and shares the replica.
    again.do("first = db")
    again.open(store)
    assert again.value("dict(db.own), first is db") == [{"m": 1}, False]


def test_c3_13_the_root_certifies_a_new_key_for_a_lost_one(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    root = identity(b, "root", tmp_path / "root.identity")
    lost = identity(a, "pi-a", tmp_path / "a.identity")
    b.open(f"root={root!r}")
    a.open(f"identity=pi_a, root={root!r}")
    b.do(f"db.publish(root.certify('home', 'pi-a', {lost!r}))")
    a.until("db.nodes() == ['pi-a']")
    a.do("db.own['n'] = 1")
    b.until("dict(db.node('pi-a')) == {'n': 1}")
    a.do("db.close()")
    new = identity(a, "pi-a", tmp_path / "new.identity")
    b.do(f"db.publish(root.certify('home', 'pi-a', {new!r}, serial=2))")
    a.open(f"identity=pi_a, root={root!r}")
    a.until(f"db.node('pi-a').key == {new!r}")
    a.do("db.own['n'] = 2")
    b.until("dict(db.node('pi-a')) == {'n': 2}")


def test_c3_16_a_callback_hears_of_one_key_of_one_owner_and_of_who_left(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    key = identity(a, "pi-a", tmp_path / "a.identity")
    a.open("replica='a', identity=pi_a")
    b.open(f"trust={{'pi-a': {key!r}}}")
    b.until("len(db.peers()) == 1")
    b.do(
        """
import queue
calls, events = queue.Queue(), db.peer_events()
db.on_change('temperature', node='pi-a')(lambda *call: calls.put(call))
watch = db.watch(node='pi-a')
"""
    )
    a.do("db['temperature'] = 'of everybody'; db.own['other'] = 1; db.own['temperature'] = 21.5")
    assert b.value("calls.get(timeout=120)") == ["temperature", None, 21.5, "a"]
    assert b.value("{watch.next(120).owner, watch.next(120).owner} == {'pi-a'}")
    a.do("db.close()")
    b.do(
        """
event = events.next(120)
while event.event != 'left': event = events.next(120)
"""
    )
    assert b.value("event.peer.owner, event.peer.name") == ["pi-a", "a"]


def test_c3_17_a_closed_field_frees_its_port_and_a_key_is_private(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(1)
    a = start(room, 0)
    identity(a, "pi-a", tmp_path / "a.identity")
    assert stat.S_IMODE((tmp_path / "a.identity").stat().st_mode) == 0o600
    a.open()
    bind = "import socket; socket.create_server(('', 7447), family=socket.AF_INET).close()"
    with pytest.raises(RemoteError, match="in use"):
        a.do(bind)
    a.do("db.close()")
    a.do(bind)
    (tmp_path / "a.identity").chmod(0o644)
    with pytest.raises(RemoteError, match="chmod 600") as refused:
        a.open(f"identity={str(tmp_path / 'a.identity')!r}")
    assert "IdentityError" in refused.value.kinds
