"""C2: a shared memory of the machines of a network."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from machine import NO_MULTICAST, SECRET, RemoteError
from program import Program, tool

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from machine import Network, Room, Start


def test_c2_1_two_machines_with_one_secret_share_variables(network: Room, start: Start) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    a.open("replica='a'")
    b.open("replica='b'")
    b.until("len(db.peers()) == 1")
    b.do(
        """
import queue, time
seen = queue.Queue()
db.on_change('k')(lambda key, old, new, by: seen.put((new, time.time(), by)))
"""
    )
    times, trips = [], []
    for i in range(21):
        trips.append(b.trip())
        a.do(f"import time; sent = time.time(); db['k'] = {i}")
        new, at, by = b.value("seen.get(timeout=120)")
        assert (new, by) == (i, "a")
        # The clocks of namespaces are one clock.
        times.append(at - a.value("sent"))
    # A change is heard after a few changes of threads. On a busy machine a single one takes long.
    assert sorted(times)[10] < 0.1 + 5 * sorted(trips)[10]
    assert a.value("db['k']") == b.value("db['k']") == 20


def test_c2_2_a_late_joiner_gets_everything_without_a_call(network: Room, start: Start) -> None:
    room = network(2)
    a = start(room, 0)
    a.open()
    a.do("for i in range(2000): db[f'k/{i}'] = i")
    a.do("db.counter('visits').add(3); db.tags('seen').add('a')")
    b = start(room, 1)
    b.open()
    b.until("len(db) == 2000 and int(db.counter('visits')) == 3 and 'a' in db.tags('seen')")


def test_c2_3_a_burst_arrives_whole_at_ten_percent_loss(network: Room, start: Start) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    a.open()
    b.open()
    b.until("len(db.peers()) == 1")
    for at in range(2):
        room.rules(at, LOSS)
    b.do("order = []; db.on_change('last')(lambda key, old, new, by: order.append(new))")
    a.do("for i in range(3000): db[f'burst/{i}'] = i; db['last'] = i")
    b.until("len(db.keys('burst/*')) == 3000 and db.get('last') == 2999", 240)
    assert b.value("[db[f'burst/{i}'] for i in range(3000)] == list(range(3000))")
    assert b.value("order == sorted(order)")


LOSS = """
table inet loss {
  chain incoming {
    type filter hook input priority 0
    iifname "eth0" numgen random mod 100 < 10 counter drop
  }
}
"""


def test_c2_4_a_value_that_is_too_large_is_refused_whole(start: Start) -> None:
    a = start()
    a.open("medium='local:'")
    a.do("db['photo'] = 'small'")
    with pytest.raises(RemoteError, match="32768 are allowed") as refused:
        a.do("db['photo'] = 'x' * 10_000_000")
    assert "RefusedError" in refused.value.kinds
    assert a.value("db['photo']") == "small"


def test_c2_5_machines_converge_after_the_cable_is_plugged_in_again(network: Room, start: Start) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    a.open()
    b.open()
    b.until("len(db.peers()) == 1")
    room.unplug(1)
    a.do("db['a'] = 1; db['both'] = 'a'")
    b.do("db['b'] = 2; db['both'] = 'b'")
    # Both have noticed that they are alone.
    a.until("db.peers() == []")
    b.until("db.peers() == []")
    room.plug(1)
    a.until("db.get('b') == 2")
    b.until("db.get('a') == 1")
    a.until("db['both'] == 'b'")
    assert b.value("db['both']") == "b"


def test_c2_6_a_clock_that_was_an_hour_ahead_does_no_harm(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(2)
    store = f"replica='a', store={str(tmp_path / 'a.field')!r}"
    fast, b = start(room, 0, **clock_of(tmp_path)), start(room, 1)
    fast.open(store)
    b.open("replica='b'")
    fast.do("db['k'] = 'fast'; db.durable(120)")
    # Nobody hears a machine whose clock is that wrong, and it can be seen why.
    fast.until("'clocks that differ' in (db.trouble or '')")
    assert fast.value("db.peers()") == []
    fast.kill()
    b.do("db['k'] = 'right'")
    # The clock is right again, and the write of the future is still there.
    a = start(room, 0)
    a.open(store)
    a.until("len(db.peers()) == 1")
    with pytest.raises(RemoteError, match="clock") as refused:
        a.do("db.agreed(1, timeout=120)")
    assert "NotAgreedError" in refused.value.kinds
    a.until("'aether field restamp' in (db.trouble or '')")
    b.until("db.status()['from_future'] >= 1")
    assert b.value("db['k']") == "right"
    # A replica without that write goes on at once.
    a.do("db.close()")
    a.open("replica='a'")
    a.until("db.get('k') == 'right'")
    a.do("db['k'] = 'later'")
    b.until("db['k'] == 'later'")


def test_c2_6_a_clock_that_is_ten_seconds_ahead_is_reported(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(2)
    fast, b = start(room, 0, **clock_of(tmp_path, 10)), start(room, 1)
    fast.open("replica='fast'")
    b.open()
    b.until("len(db.peers()) == 1")
    b.until("'s ahead of the one here' in (db.trouble or '')")
    fast.until("len(db.peers()) == 1")
    fast.until("'s behind the one here' in repr(db)")
    # A write that follows another one wins nevertheless.
    fast.do("db['k'] = 1")
    b.until("db.get('k') == 1")
    b.do("db['k'] = 2")
    fast.until("db['k'] == 2")


def clock_of(folder: Path, seconds: int = 3600) -> dict[str, str]:
    """The environment of a program whose clock is ahead."""
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(
        f"#define AHEAD {seconds}\n"
        """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <time.h>
        int clock_gettime(clockid_t clock, struct timespec *now) {
            int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
            int failed = real(clock, now);
            if (!failed && clock == CLOCK_REALTIME) now->tv_sec += AHEAD;
            return failed;
        }
        """
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


def test_c2_7_a_deleted_key_stays_deleted(network: Room, start: Start, tmp_path: Path) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    a.open()
    b.open(f"store={str(tmp_path / 'b.field')!r}")
    a.do("db['k'] = 1")
    b.until("db.get('k') == 1")
    b.do("db.durable(120); db.close()")
    a.do("del db['k']; db['other'] = 2")
    b.open(f"store={str(tmp_path / 'b.field')!r}")
    b.until("db.get('other') == 2 and 'k' not in db")
    assert a.value("'k' not in db")


def test_c2_8_a_wrong_secret_reads_and_writes_nothing(network: Room, start: Start) -> None:
    room = network(3)
    wire = capture(room)
    a, b, stranger = start(room, 0), start(room, 1), start(room, 2)
    a.open()
    b.open()
    stranger.open("secret='another secret of somebody'")
    stranger.do("db['stranger'] = 'stranger-value'")
    a.do("db['visible-key'] = 'visible-value'")
    b.until("db.get('visible-key') == 'visible-value'")
    a.do("db.agreed(1, timeout=120)")
    stranger.until("'another one' in (db.trouble or '')")
    assert stranger.value("db.peers() == [] and list(db) == ['stranger']")
    assert a.value("list(db)") == ["visible-key"]
    wire.terminate()
    seen = wire.communicate()[0]
    assert "frames" in seen, seen
    assert "leak" not in seen, seen


def capture(room: Network) -> subprocess.Popen[str]:
    """Look at every frame in the room for keys and values, from the hub."""
    program = """
import signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('frames', frames)))
wire, frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)), 0
print('ready', flush=True)
while True:
    frame = wire.recv(65536)
    frames += 1
    for text in (b'visible-', b'stranger'):
        if text in frame: print('leak', frame)
"""
    command = ["ip", "netns", "exec", f"{room.name}-hub", sys.executable, "-c", program]
    wire = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert wire.stdout is not None
    assert wire.stdout.readline() == "ready\n"
    return wire


def test_c2_9_packets_of_strangers_change_nothing(network: Room, start: Start) -> None:
    room = network(3)
    a, b, hostile = start(room, 0), start(room, 1), start(room, 2)
    a.open()
    b.open()
    a.until("len(db.peers()) == 1")
    hostile.do(
        f"""
import random, socket
odds = random.Random(9)
def packets():
    yield b'\\0' * 60_000
    yield b'{{"filename": "../../x", "payload": 1}}'
    yield ('/' + 'n' * 300).encode()
    for _ in range(5000): yield odds.randbytes(odds.randrange(1, 1400))
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for packet in packets():
    for place in [('224.0.0.224', 7446), ({room.address(0)!r}, 7446), ({room.address(0)!r}, 7447)]:
        try: datagrams.sendto(packet, place)
        except OSError: pass
for packet in list(packets())[:50]:
    with socket.create_connection(({room.address(0)!r}, 7447), 30) as stream:
        try: stream.sendall(packet)
        except OSError: pass
"""
    )
    a.do("db['after'] = 1")
    b.until("db.get('after') == 1")
    assert a.value("list(db)") == ["after"]


def test_c2_11_callbacks_get_old_and_new_values_where_the_caller_wants(start: Start) -> None:
    a = start()
    a.open("medium='local:', replica='a'")
    a.do(
        """
import asyncio, queue, threading
calls, loop = queue.Queue(), asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, name='loop', daemon=True).start()
@db.on_change('k')
def one(key, old, new, by): calls.put(['thread', key, old, new, by, threading.current_thread().name])
@db.on_change('room/*', loop=loop)
async def many(key, old, new, by):
    await asyncio.sleep(0)
    calls.put(['loop', key, old, new, by, threading.current_thread().name])
watch = db.watch('k')
db['k'] = 1
"""
    )
    assert a.value("calls.get(timeout=120)") == ["thread", "k", None, 1, "a", "aether-one"]
    a.do("del db['k']")
    assert a.value("calls.get(timeout=120)") == ["thread", "k", 1, None, "a", "aether-one"]
    a.do("db['room/7'] = {'on': True}")
    assert a.value("calls.get(timeout=120)") == ["loop", "room/7", None, {"on": True}, "a", "loop"]
    # On the thread of the caller, what was not taken is one change.
    assert a.value("watch.next(120)[:4]") == ["k", None, None, "a"]
    a.do("db.off(one); db['k'] = 2; db['room/8'] = 1")
    assert a.value("calls.get(timeout=120)[1]") == "room/8"
    a.do("loop.call_soon_threadsafe(loop.stop)")


def test_c2_12_two_programs_of_one_machine_without_a_network(network: Room, start: Start) -> None:
    room = network(1)
    room.unplug(0)
    subprocess.run(["ip", "-n", room.space(0), "link", "del", "eth0"], check=True)
    a, b = start(room, 0), start(room, 0)
    a.open("replica='a'")
    b.open("replica='b'")
    a.do("db['a'] = 1")
    b.do("db['b'] = 2")
    b.until("db.get('a') == 1")
    a.until("db.get('b') == 2")
    c = start(room, 0)
    c.open("replica='c'")
    c.until("db.get('a') == 1 and db.get('b') == 2")


def test_c2_12_a_machine_alone_works(network: Room, start: Start) -> None:
    room = network(1)
    subprocess.run(["ip", "-n", room.space(0), "link", "del", "eth0"], check=True)
    subprocess.run(["ip", "-n", room.space(0), "link", "set", "lo", "down"], check=True)
    a = start(room, 0)
    a.open()
    a.do("db['k'] = 1")
    assert a.value("db['k'], db.peers()") == [1, []]
    with pytest.raises(RemoteError, match="0 are there") as late:
        a.do("db.agreed(1, timeout=0.2)")
    assert "TimeoutError" in late.value.kinds


def test_c2_13_one_address_is_enough_where_multicast_is_blocked(network: Room, start: Start) -> None:
    room = network(3)
    for at in range(3):
        room.rules(at, NO_MULTICAST)
    a, b, c = (start(room, at) for at in range(3))
    a.open("replica='a'")
    b.open(f"replica='b', peers=[{room.address(0)!r}]")
    c.open(f"replica='c', peers=[{room.address(0)!r}]")
    a.do("db['a'] = 1")
    b.do("db['b'] = 2")
    c.until("db.get('a') == 1 and db.get('b') == 2")


def test_c2_13_three_networks_through_a_router(network: Room, start: Start, stack: ExitStack) -> None:
    room = network(3)
    room.divide()
    hub = ["ip", "netns", "exec", f"{room.name}-hub"]
    router = Program(*hub, tool("AETHER_PROGRAM"), "lan", "router", "--no-multicast")
    stack.callback(router.end)
    router.line("7447")
    machines = [start(room, at) for at in range(3)]
    for at, machine in enumerate(machines):
        machine.open(f"replica='m{at}', secret={SECRET!r}, medium='lan:?router=10.78.{at}.254:7447'")
    for at, machine in enumerate(machines):
        machine.do(f"db['k/{at}'] = {at}")
    for machine in machines:
        machine.until("[db.get(f'k/{at}') for at in range(3)] == [0, 1, 2]")


def test_c2_15_own_data_is_there_before_any_peer_is_seen(network: Room, start: Start, tmp_path: Path) -> None:
    room = network(1)
    store = f"store={str(tmp_path / 'a.field')!r}"
    a = start(room, 0)
    a.open(store)
    a.do("db['k'] = [1, 2]; db.counter('visits').add(5); db.tags('seen').add('pi-1'); db.durable(120)")
    a.kill()
    again = start(room, 0)
    again.open(store)
    assert again.value("db['k'], int(db.counter('visits')), list(db.tags('seen')), db.peers()") == [
        [1, 2],
        5,
        ["pi-1"],
        [],
    ]
