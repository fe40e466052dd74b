"""P5 and P6: the life of a program, its threads, its end, and its callbacks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from machine import RemoteError

if TYPE_CHECKING:
    from pathlib import Path

    from machine import Start

LOCAL = "import aether; db = aether.open('home', medium='local:')\n"


def run(code: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
    """Run a program with all warnings as errors."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


def test_p5_a_program_ends_at_once_with_all_open() -> None:
    code = (
        "import time; began = time.monotonic(); import aether\n"
        "db = aether.open('home', secret='correct horse battery staple')\n"
        "@db.on_change('*')\n"
        "def changed(key, old, new, by): pass\n"
        "for i in range(100): db[f'k/{i}'] = i\n"
        "watch = db.watch(); waiting = watch._stream.ready()\n"
        "print(began, time.monotonic())\n"
    )
    for _ in range(20):
        ended = run(code)
        now = time.monotonic()
        assert (ended.returncode, ended.stderr) == (0, "")
        began, end = map(float, ended.stdout.split())
        # On a busy machine all takes longer, also its beginning.
        assert now - end < 5 + 10 * (end - began)


def test_p5_the_end_of_a_program_stores_its_last_writes(tmp_path: Path) -> None:
    # The end of a program waits for so long at most, and the disk may be busy.
    patience = "import aether; from aether import _opening; _opening.AT_EXIT = 120.0\n"
    opening = f"{patience}db = aether.open('home', medium='local:', store={str(tmp_path / 'f')!r})\n"
    ended = run(opening + "for i in range(500): db[f'k/{i}'] = i")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert run(opening + "print(len(db))").stdout == "500\n"


def test_p5_a_fork_is_refused_in_the_child_and_harms_nobody() -> None:
    ended = run(
        LOCAL
        + """
import os, sys
db['k'] = 1
watch, counter = db.watch(), db.counter('c')
child = os.fork()
if child == 0:
    for call in [lambda: db['k'], lambda: db.update({'k': 2}), watch.next, counter.add, db.durable, db.peers]:
        try: call()
        except aether.ForkedError as error: assert 'open it again in the child' in str(error)
        else: os._exit(3)
    again = aether.open('home', medium='local:')
    again['k'] = 'of the child'
    assert again['k'] == 'of the child'
    again.close()
    del db, watch, counter
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
db['k'] = 2
print(db['k'])
"""
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "2\n", "")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_p5_other_ways_to_start_a_child_work(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import aether, multiprocessing
from concurrent.futures import ProcessPoolExecutor

def work(n):
    with aether.open('home', medium='local:') as db:
        db['n'] = n
        return db['n'] * 2

if __name__ == '__main__':
    db = aether.open('home', medium='local:')
    context = multiprocessing.get_context({method!r})
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        print(list(pool.map(work, [1, 2, 3])))
"""
    )
    ended = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=240, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[2, 4, 6]\n", "")


WAITS = {
    "agreed": "db.agreed(1)",
    "watch": "next(db.watch())",
    "next": "db.watch().next()",
    "superseded": "list(db.superseded())",
    "connect": "aether.open('other', medium='lan:?router=192.0.2.1:7447&insecure')",
}


@pytest.mark.parametrize("wait", WAITS)
def test_p5_ctrl_c_ends_every_wait_at_once(wait: str) -> None:
    code = LOCAL + f"print('waits', flush=True)\n{WAITS[wait]}"
    start = time.monotonic()
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "waits\n"
    began = time.monotonic()
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=120)
    assert "KeyboardInterrupt" in errors
    assert program.returncode == -signal.SIGINT
    # On a busy machine all takes longer, also its beginning.
    assert time.monotonic() - began < 5 + 10 * (began - start)


def test_p5_two_handles_of_a_process_share_a_replica() -> None:
    ended = run(
        LOCAL
        + """
other = aether.open('home', medium='local:')
db['k'] = 1
assert other['k'] == 1 and db != other
db.close()
assert other['k'] == 1
try: db['k']
except aether.ClosedError as error: assert 'open it again' in str(error)
other.close(); other.close()
assert 'closed' in repr(other)
assert 'k' not in aether.open('home', medium='local:')
"""
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_p6_callbacks_that_fail_block_or_write_harm_nobody(start: Start) -> None:
    a = start()
    a.open("medium='local:'")
    a.do(
        """
import logging, queue, threading
calls, release, log = queue.Queue(), threading.Event(), queue.Queue()
class Keeper(logging.Handler):
    def emit(self, record): log.put(record.getMessage())
logging.getLogger('aether').addHandler(Keeper())
logging.getLogger('aether').propagate = False
@db.on_change('k')
def fails(key, old, new, by):
    calls.put(['fails', new])
    raise RuntimeError('on purpose')
@db.on_change('k')
def blocks(key, old, new, by):
    calls.put(['blocks', new]); release.wait(120)
@db.on_change('k')
def writes(key, old, new, by): db['echo'] = new
@db.on_change('echo')
def heard(key, old, new, by): calls.put(['heard', new])
db['k'] = 1
"""
    )
    assert sorted(a.value("[calls.get(timeout=120) for _ in range(3)]")) == [
        ["blocks", 1],
        ["fails", 1],
        ["heard", 1],
    ]
    assert "'k'" in a.value("log.get(timeout=120)")
    # The one that failed goes on, and the one that blocks gets the newest value alone.
    a.do("for i in range(2, 1000): db['k'] = i")
    a.do("while (call := calls.get(timeout=120)) != ['fails', 999]: assert call[0] != 'blocks'")
    a.do("release.set()")
    a.do("while (call := calls.get(timeout=120)) != ['blocks', 999]: pass")


def test_p6_a_callback_of_a_loop_that_is_closed_ends() -> None:
    ended = run(
        LOCAL
        + """
import asyncio, logging, threading, time
logging.disable()
loop = asyncio.new_event_loop()
db.on_change('k', loop=loop)(print)
loop.close()
db['k'] = 1
for thread in threading.enumerate():
    if thread.name == 'aether-print': thread.join(120); assert not thread.is_alive()
"""
    )
    assert ended.returncode == 0, ended.stderr


def test_a_second_process_on_one_store_is_refused(start: Start, tmp_path: Path) -> None:
    a, b = start(), start()
    store = f"medium='local:', store={str(tmp_path / 'f')!r}"
    a.open(store)
    with pytest.raises(RemoteError, match="another process") as refused:
        b.open(store)
    assert "StoreError" in refused.value.kinds
    a.do("db['k'] = 1; db.close()")
    b.open(store)
    assert b.value("db['k']") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_full_disk_is_reported_and_the_field_goes_on(start: Start, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(tmp_path)], check=True)
    try:
        a = start()
        a.open(f"medium='local:', store={str(tmp_path / 'f')!r}")
        a.do("db['k'] = 1; db.durable(120)")
        a.do("for i in range(400): db[f'large/{i}'] = 'x' * 30_000")
        with pytest.raises(RemoteError) as full:
            a.do("db.durable(120)")
        assert "StoreError" in full.value.kinds
        a.do("db['k'] = 2")
        assert a.value("db['k'], len(db)") == [2, 401]
        a.until("db.trouble is not None")
        a.do("for i in range(400): del db[f'large/{i}']")
        a.kill()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_server_that_is_not_there_is_an_error_that_names_it(start: Start) -> None:
    a = start()
    with pytest.raises(RemoteError, match=r"127\.0\.0\.1:1") as refused:
        a.open("medium='nats://127.0.0.1:1'")
    assert "MediumError" in refused.value.kinds
    for options, kind, text in [
        ("medium='amqp://x'", "MediumError", "amqp"),
        ("secret='short'", "MediumError", "at least 16"),
        ("secret='x' * 20, medium='nats://127.0.0.1:1'", "RefusedError", "aether keys new"),
        ("peers='10.0.0.5'", "RefusedError", "list of addresses"),
        ("medium='local:', peers=['10.0.0.5']", "RefusedError", "local network"),
        ("medium='local:', trust={'pi': 'no key'}", "RefusedError", "public key"),
        ("medium='local:', identity='/nowhere/pi.identity'", "IdentityError", "/nowhere"),
        ("medium='local:', store='/nowhere/f'", "StoreError", "/nowhere"),
    ]:
        with pytest.raises(RemoteError, match=text) as refused:
            a.open(options)
        assert kind in refused.value.kinds, (options, refused.value)
    with pytest.raises(RemoteError, match="name of a field"):
        a.open("medium='local:'", name="two words")
    a.do("import os; os.environ.pop('AETHER_LAN_SECRET', None)")
    with pytest.raises(RemoteError, match="needs a secret"):
        a.do("aether.open('home')")
    a.open("medium='local:'")
    a.do("db['k'] = 1")
