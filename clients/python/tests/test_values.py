"""What a field holds, and what it refuses."""

from __future__ import annotations

import inspect
import math
import pydoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import aether

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def db() -> Iterator[aether.Field]:
    with aether.open("values", medium="local:") as db:
        yield db


def test_a_field_is_a_mapping(db: aether.Field) -> None:
    db["lamp/1"] = {"on": True}
    db["lamp/2"] = {"on": False}
    db["other"] = 1
    assert db["lamp/1"] == {"on": True}
    assert "lamp/1" in db
    assert (7 in db) is False  # type: ignore[comparison-overlap]
    assert list(db) == ["lamp/1", "lamp/2", "other"]
    assert len(db) == 3
    assert dict(db.items("lamp/*")) == {"lamp/1": {"on": True}, "lamp/2": {"on": False}}
    assert list(db.keys("lamp/*")) == ["lamp/1", "lamp/2"]
    assert list(db.values("other")) == [1]
    assert db.get("nothing") is None
    assert db.get("nothing", 7) == 7
    with pytest.raises(KeyError, match="nothing"):
        db["nothing"]
    with pytest.raises(KeyError):
        del db["nothing"]
    assert db.pop("other") == 1
    assert db.setdefault("other", 2) == 2
    db.update({"a": 1, "b": 2})
    db.update([("c", 3)])
    db.update("c", lambda old: old + 1)
    db.update("new", lambda old: [old])
    db.update("a", lambda _: None)
    assert [db.get(key) for key in ["a", "b", "c", "new"]] == [None, 2, 4, [None]]
    for key in db:
        del db[key]
    assert not db
    db["k"] = 1
    db.clear()
    assert len(db) == 0


def test_an_update_that_fails_changes_nothing(db: aether.Field) -> None:
    db["k"] = 1
    with pytest.raises(ZeroDivisionError):
        db.update("k", lambda old: old / 0)
    assert db["k"] == 1


@pytest.mark.parametrize(
    "value",
    [
        True,
        0,
        -1,
        2**53 + 1,
        2**63,
        2**64 - 1,
        -(2**63),
        0.1,
        -0.0,
        1e308,
        5e-324,
        1.0,
        "",
        'ümläut \U0001f980 \0 " \\ ',
        [],
        {},
        [None, [1, "x", {"a": [True, 2.5]}]],
        {"": 1, "__proto__": {"a": 1}, "ü": None, "$bytes": 1},
        aether.Bytes(b""),
        aether.Bytes(bytes(range(256))),
        {"photo": [aether.Bytes(b"\xff")]},
    ],
)
def test_a_value_comes_back_as_it_was(db: aether.Field, value: Any) -> None:
    db["k"] = value
    read = db["k"]
    assert read == value
    assert type(read) is type(value)
    assert math.copysign(1, read) == math.copysign(1, value) if isinstance(value, float) else True
    assert repr(read) == repr(value)


def test_a_read_is_a_new_object(db: aether.Field) -> None:
    db["a"] = {"b": 1}
    db["a"]["b"] = 2
    assert db["a"] == {"b": 1}
    db["tuple"] = (1, (2,))
    assert db["tuple"] == [1, [2]]


def cycle() -> list[Any]:
    """A list that contains itself."""
    inside: list[Any] = []
    inside.append([inside])
    return inside


def deep(levels: int) -> Any:
    """Lists in lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, TypeError, "remove the key"),
        (math.nan, ValueError, "no NaN"),
        ({"a": [1, math.inf]}, ValueError, r'at value\["a"\]\[1\]'),
        (2**64, ValueError, "64 bits"),
        (-(2**63) - 1, ValueError, "64 bits"),
        (b"raw", TypeError, r"aether\.Bytes"),
        ([bytearray(b"raw")], TypeError, r"at value\[0\]"),
        ({1: "one"}, TypeError, "key 1"),
        ({"a": {1, 2}}, TypeError, "set is not JSON"),
        (object(), TypeError, "object is not JSON"),
        (1j, TypeError, "complex"),
        ("\ud800", ValueError, "surrogate"),
        ({"\udfff": 1}, ValueError, "surrogate"),
        ({"$bytes": "aGk="}, ValueError, r"aether\.Bytes"),
        (cycle(), ValueError, "contains itself"),
        (deep(101), ValueError, "100 deep"),
        ("x" * 32_767, ValueError, "32769 bytes; 32768 are allowed"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(
    db: aether.Field, value: Any, kind: type[Exception], text: str
) -> None:
    db["k"] = "before"
    with pytest.raises(aether.RefusedError, match=text) as refused:
        db["k"] = value
    assert isinstance(refused.value, kind)
    assert isinstance(refused.value, aether.Error)
    assert dict(db) == {"k": "before"}
    db["k"] = "after"


def test_bounds_are_what_the_text_says(db: aether.Field) -> None:
    db["x" * 256] = "x" * 32_766
    db["deep"] = deep(100)
    assert db["deep"] == deep(100)
    for key in ["", "x" * 257, "\U0001f980" * 65]:
        with pytest.raises(aether.RefusedError):
            db[key] = 1
    for wrong in [7, None, b"k"]:
        with pytest.raises(TypeError):
            db[wrong] = 1  # type: ignore[index]
    assert "x" * 1000 not in db


def test_counters_and_sets(db: aether.Field) -> None:
    visits, seen = db.counter("visits"), db.tags("seen")
    sums, members = visits.watch(), seen.watch()
    visits.add()
    assert sums.next(120) == 1
    visits.add(-3)
    assert int(visits) == visits.value == sums.next(120) == -2
    for wrong in [2**63, 1.5, "1"]:
        with pytest.raises((OverflowError, TypeError)):
            visits.add(wrong)  # type: ignore[arg-type]
    seen.add("pi-1")
    assert members.next(120) == ("pi-1", True)
    seen.add(aether.Bytes(b"\xff"))
    assert set(seen) == {"pi-1", b"\xff"}
    assert "pi-1" in seen
    assert (7 in seen) is False  # type: ignore[comparison-overlap]
    seen.discard("pi-1")
    seen.discard("never there")
    assert set(seen) == {b"\xff"}
    with pytest.raises(KeyError):
        seen.remove("pi-1")
    with pytest.raises(aether.RefusedError, match="256"):
        seen.add("x" * 257)
    # One name of each kind.
    db["visits"] = 1
    assert (db["visits"], visits.value) == (1, -2)


def test_presence(db: aether.Field) -> None:
    watch = db.presence.watch()
    db.presence["ada"] = {"x": 3}
    assert watch.next(120) == ("ada", True, {"x": 3})
    db.presence["bob"] = None
    assert dict(db.presence) == {"ada": {"x": 3}, "bob": None}
    del db.presence["ada"]
    with pytest.raises(KeyError):
        del db.presence["ada"]
    assert list(db.presence) == ["bob"]
    with pytest.raises(aether.RefusedError, match="4096"):
        db.presence["eve"] = "x" * 5000


def test_a_writer_that_loses_is_told(db: aether.Field) -> None:
    other = aether.open("values", medium="local:", replica="other")
    losses, own = other.superseded(), db.superseded()
    with other:
        for i in range(2000):
            other["race"] = f"other {i}"
            db["race"] = f"db {i}"
        loser = losses if db["race"].startswith("db") else own
        loss = loser.next(120)
    assert loss.key == "race"
    assert loss.lost != loss.value


def test_a_closed_field_says_so() -> None:
    other = aether.open("closing", medium="local:")
    watch = other.watch()
    other["k"] = 1
    other.close()
    assert [change.key for change in watch] == ["k"]
    with pytest.raises(aether.ClosedError):
        other["k"]
    with pytest.raises(aether.ClosedError):
        other.peers()
    with pytest.raises(aether.ClosedError):
        _ = other.own
    with pytest.raises(aether.ClosedError):
        watch.next()


def test_the_repl_shows_what_is_there(db: aether.Field) -> None:
    db["k"] = 1
    assert repr(db) == "<aether.Field 'values' on 'local:': 1 keys, 0 peers>"
    assert db._ipython_key_completions_() == ["k"]
    assert set(db.status()) >= {"entries", "refused", "superseded"}


def test_the_wheel_has_its_types() -> None:
    folder = Path(aether.__file__).parent
    assert (folder / "py.typed").is_file()
    assert (folder / "_native.pyi").is_file()
    # Tested is what was installed, and not what is beside the tests.
    assert Path(__file__).parents[1] not in folder.parents


def test_everything_has_a_docstring() -> None:
    for name in aether.__all__:
        thing = getattr(aether, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name
            assert "secret" in pydoc.render_doc(thing) if name == "open" else pydoc.render_doc(thing)
            if inspect.isclass(thing) and not issubclass(thing, tuple | Exception | bytes):
                for member, function in vars(thing).items():
                    if not member.startswith("_") and callable(function):
                        assert inspect.getdoc(function), f"{name}.{member}"
