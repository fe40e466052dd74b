"""C2-10 and P10: folders that are the same on every machine."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

import aether
from machine import SECONDS, SECRET, RemoteError

if TYPE_CHECKING:
    from pathlib import Path

    from machine import Machine, Room, Start

# Files that are sent in blocks.
LARGE = 5 << 20


def mirror(machine: Machine, folder: Path, options: str = "") -> None:
    """Mirror a folder as `pool`, whose events come one after the other."""
    machine.do(f"pool = aether.mirror({str(folder)!r}, 'home', secret={SECRET!r}, {options})")
    machine.do("events = pool.events()")


def until(machine: Machine, condition: str) -> None:
    """Wait until a condition is true, and look again after each event of the mirror."""
    machine.do(f"until_event(events, {condition!r}, {SECONDS})")


def has(machine: Machine, file: Path, content: str) -> None:
    """Wait until a file has a content."""
    until(machine, f"Path({str(file)!r}).exists() and Path({str(file)!r}).read_text() == {content!r}")


def put(folder: Path, place: str, content: bytes | str) -> None:
    """Write a file in a mirror of this folder in one step, so that nobody sees half of it."""
    beside = folder / "beside"
    beside.write_bytes(content.encode() if isinstance(content, str) else content)
    beside.rename(folder / place)


def test_c2_10_files_are_created_edited_renamed_and_deleted(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    here, there = tmp_path / "a", tmp_path / "b"
    here.mkdir()
    (here / "before.txt").write_text("it was here first")
    mirror(a, here, "machine='a'")
    mirror(b, there, "machine='b'")
    has(b, there / "before.txt", "it was here first")
    (there / "notes").mkdir()
    put(tmp_path, "b/notes/list.txt", "a lamp")
    has(a, here / "notes" / "list.txt", "a lamp")
    put(tmp_path, "a/notes/list.txt", "two lamps")
    has(b, there / "notes" / "list.txt", "two lamps")
    (there / "notes" / "list.txt").rename(there / "list.txt")
    has(a, here / "list.txt", "two lamps")
    until(a, f"not Path({str(here / 'notes' / 'list.txt')!r}).exists()")
    (here / "list.txt").unlink()
    until(b, f"not Path({str(there / 'list.txt')!r}).exists()")
    content = os.urandom(LARGE)
    put(tmp_path, "a/photo.raw", content)
    until(b, f"Path({str(there / 'photo.raw')!r}).exists()")
    assert hashlib.sha256((there / "photo.raw").read_bytes()).digest() == hashlib.sha256(content).digest()
    b.do(f"pool.settled({SECONDS})")
    assert b.value("pool.refused()") == {}
    assert b.value("pool.status().blocks_received") == LARGE // (256 << 10)
    assert a.value("pool.stop().files") == b.value("pool.stop().files") == 2
    names = sorted(path.name for path in here.iterdir() if path.is_file())
    assert names == sorted(path.name for path in there.iterdir() if path.is_file())


def test_c2_10_a_version_that_loses_is_kept_beside(network: Room, start: Start, tmp_path: Path) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    here, there = tmp_path / "a", tmp_path / "b"
    mirror(a, here, "machine='a'")
    mirror(b, there, "machine='b'")
    put(tmp_path, "a/plan.txt", "the first")
    has(b, there / "plan.txt", "the first")
    room.unplug(1)
    put(tmp_path, "a/plan.txt", "the one of a")
    until(a, "pool.status().sent == 2")
    put(tmp_path, "b/plan.txt", "the one of b")
    until(b, "pool.status().sent == 1")
    room.plug(1)
    for machine, folder in [(a, here), (b, there)]:
        has(machine, folder / "plan.txt", "the one of b")
        until(machine, f"list(Path({str(folder)!r}).glob('plan.txt (conflict, a, *'))")
        assert [path.read_text() for path in folder.glob("plan.txt (conflict*")] == ["the one of a"]
    assert a.value("pool.status().conflicts") + b.value("pool.status().conflicts") >= 1


def test_c2_10_each_machine_has_a_subfolder(network: Room, start: Start, tmp_path: Path) -> None:
    room = network(2)
    a, b = start(room, 0), start(room, 1)
    here, there = tmp_path / "a", tmp_path / "b"
    mirror(a, here, "machine='a', per_machine=True")
    mirror(b, there, "machine='b', per_machine=True")
    (here / "a").mkdir(exist_ok=True)
    put(tmp_path, "a/a/log.txt", "of a")
    has(b, there / "a" / "log.txt", "of a")
    (here / "alone.txt").write_text("in no subfolder")
    until(a, "'alone.txt' in pool.refused()")
    assert a.value("pool.refused()['alone.txt']") == "it is in the subfolder of another machine, or in none"
    a.do(f"pool.settled({SECONDS})")
    b.do(f"pool.settled({SECONDS})")
    assert not (there / "alone.txt").exists()


def test_c2_4_a_file_is_whole_or_refused_with_the_reason(tmp_path: Path) -> None:
    with (
        aether.open("sizes", medium="local:") as db,
        db.mirror(tmp_path / "a", max_file=1000) as pool,
    ):
        events = pool.events()
        put(tmp_path, "a/large.bin", bytes(1001))
        assert events.next(SECONDS) == ("refused", "large.bin", "it is larger than allowed")
        assert pool.refused() == {"large.bin": "it is larger than allowed"}
        assert pool.status().refused == {"it is larger than allowed": 1}
        assert list(db) == []


def test_c2_10_a_folder_that_goes_ends_the_mirror_and_deletes_nothing(tmp_path: Path) -> None:
    here, there = tmp_path / "a", tmp_path / "b"
    with aether.open("gone", medium="local:") as db:
        a, b = db.mirror(here), aether.mirror(there, "gone", medium="local:", machine="b")
        events = b.events()
        put(tmp_path, "a/kept.txt", "kept")
        assert events.next(SECONDS)[:2] == ("written", "kept.txt")
        ended = a.events()
        here.rename(tmp_path / "away")
        assert not [event for event in ended if event.kind == "sent_deletion"]
        with pytest.raises(aether.FolderError, match="is gone, or another one is in its place"):
            a.settled(SECONDS)
        assert a.stop().sent == 1
        b.settled(SECONDS)
        b.stop()
        assert (there / "kept.txt").read_text() == "kept"


def test_c2_10_folders_that_cannot_be_mirrored_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with aether.open("refused", medium="local:") as db:
        with pytest.raises(aether.FolderError, match="cannot be mirrored"):
            db.mirror(tmp_path / "file" / "below")
        with pytest.raises(aether.RefusedError, match="cannot be the name of a machine"):
            db.mirror(tmp_path / "a", machine="../b")
        pool = db.mirror(tmp_path / "a")
        with pytest.raises(aether.FolderError):
            db.mirror(tmp_path / "a")
        with pytest.raises(aether.FolderError):
            aether.mirror(tmp_path / "a", "other", medium="local:")
        with pytest.raises(TypeError):
            db.mirror(tmp_path / "b", max_files="many")  # type: ignore[arg-type]
    # It ends with its field, and says so.
    with pytest.raises(aether.ClosedError):
        pool.settled(SECONDS)
    with pytest.raises(aether.ClosedError):
        db.mirror(tmp_path / "a")
    assert "stopped" in repr(pool)
    # Nothing holds the folder any more.
    again = aether.mirror(tmp_path / "a", "refused", medium="local:")
    again.stop()
    assert again.stop().files == 0


def test_c2_10_a_mirror_that_nobody_keeps_runs_until_the_program_ends(start: Start, tmp_path: Path) -> None:
    a, b = start(), start()
    a.do(f"aether.mirror({str(tmp_path / 'a')!r}, 'kept', secret={SECRET!r}, machine='a')")
    a.do("import gc; gc.collect()")
    b.do(f"pool = aether.mirror({str(tmp_path / 'b')!r}, 'kept', secret={SECRET!r}, machine='b')")
    b.do("events = pool.events()")
    (tmp_path / "a" / "news.txt").write_text("still here")
    has(b, tmp_path / "b" / "news.txt", "still here")
    with pytest.raises(RemoteError, match="another process mirrors the folder"):
        b.do(f"aether.mirror({str(tmp_path / 'a')!r}, 'kept', secret={SECRET!r})")


async def _asyncio(tmp_path: Path) -> None:
    here, there = tmp_path / "a", tmp_path / "b"
    async with (
        aether.aopen("async", medium="local:") as db,
        aether.aopen("async", medium="local:", replica="b") as other,
        db.mirror(here, machine="a") as a,
        other.mirror(there, machine="b") as b,
    ):
        events = b.events()
        put(tmp_path, "a/note.txt", "hello")
        assert await anext(events) == ("written", "note.txt", "a")
        assert (there / "note.txt").read_text() == "hello"
        await a.settled()
        # A wait that is cancelled loses nothing.
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        waiting.cancel()
        (here / "note.txt").unlink()
        assert await anext(events) == ("deleted", "note.txt", None)
        assert (await a.stop()).sent == 1
    with pytest.raises(aether.ClosedError):
        await b.settled()


def whole(text: bytes) -> bool:
    """Whether a file of `random_change` is whole."""
    return hashlib.sha256(text[64:]).hexdigest().encode() == text[:64]


def tree(folder: Path) -> dict[str, bytes]:
    """The files of a folder, and their contents."""
    files: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        if ".aether-mirror" not in path.parts:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                files[str(path.relative_to(folder))] = path.read_bytes()
    return files


def random_change(folder: Path, chance: random.Random) -> None:
    """Create, replace, rename or delete a file, in one step each."""
    path, other = (folder / chance.choice(["", "x", "x/y"]) / f"{chance.randrange(8)}.bin" for _ in range(2))
    kind = chance.random()
    with contextlib.suppress(FileNotFoundError):
        if kind < 0.15:
            path.unlink()
        elif kind < 0.3:
            other.parent.mkdir(parents=True, exist_ok=True)
            path.rename(other)
        else:
            content = chance.randbytes(chance.choice([0, 100, 20_000, 600_000]))
            beside = folder.parent / "beside"
            beside.write_bytes(hashlib.sha256(content).hexdigest().encode() + content)
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.rename(path)


def test_p10_random_changes_and_a_kill_end_in_equal_folders(
    network: Room, start: Start, tmp_path: Path
) -> None:
    room = network(2)
    machines = [start(room, 0), start(room, 1)]
    folders = [tmp_path / "a", tmp_path / "b"]
    for at in range(2):
        mirror(machines[at], folders[at], f"machine='{at}'")
    chance = random.Random(10)
    halves: list[str] = []
    seen: set[bytes] = set()
    ended, looked = threading.Event(), threading.Event()

    def read() -> None:
        while not ended.is_set():
            for folder in folders:
                files = tree(folder)
                halves.extend(name for name, content in files.items() if not whole(content))
                seen.update(hashlib.sha256(content).digest() for content in files.values())
            looked.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for change in range(300):
            random_change(folders[chance.randrange(2)], chance)
            if change % 10 == 0:
                # The reader has looked between the changes.
                looked.clear()
                assert looked.wait(SECONDS)
            if change == 150:
                # In the middle of its work; what happens meanwhile it finds at its start.
                machines[1].kill()
            if change == 200:
                machines[1] = start(room, 1)
                mirror(machines[1], folders[1], "machine='1'")
        for _ in range(20):
            for machine in machines:
                machine.do(f"pool.settled({SECONDS})")
            trees = [tree(folder) for folder in folders]
            if trees[0] == trees[1]:
                break
    finally:
        ended.set()
        reader.join()
    assert trees[0] == trees[1]
    assert len(trees[0]) > 4
    assert [machine.value("pool.refused()") for machine in machines] == [{}, {}]
    assert (halves, len(seen) > 20) == ([], True)


def test_p5_a_mirror_is_refused_in_the_child_of_a_fork(tmp_path: Path) -> None:
    code = f"""
import aether, os
db = aether.open('home', medium='local:')
pool = db.mirror({str(tmp_path / "a")!r})
child = os.fork()
if child == 0:
    for call in [pool.status, pool.refused, pool.events, pool.settled, pool.stop]:
        try: call()
        except aether.ForkedError: pass
        else: os._exit(3)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
pool.settled(120)
print(pool.stop().files)
"""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "0\n", "")


def test_c2_10_mirrors_work_in_asyncio(tmp_path: Path) -> None:
    asyncio.run(_asyncio(tmp_path))
