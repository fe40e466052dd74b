"""Live flags for a fleet: each machine obeys them, and one sets them.

`python flags.py` obeys, `python flags.py dark_mode true` sets.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

import aether


def obey() -> None:
    """Report each flag of the fleet as it changes, and that this machine obeys it."""
    me = socket.gethostname()
    with aether.open("fleet", store="fleet.field") as db:
        watch = db.watch("flag/*")
        db.presence[me] = dict(db.items("flag/*"))
        print(me, "obeys", dict(db.items("flag/*")), flush=True)
        for change in watch:
            db.tags(f"obeyed/{change.key}").add(me)
            db.presence[me] = dict(db.items("flag/*"))
            print(change.key, "is", change.new, flush=True)


def turn(flag: str, value: Any) -> None:
    """Set a flag, and wait until another machine has it."""
    with aether.open("fleet", replica="operator") as db:
        db[f"flag/{flag}"] = value
        db.agreed(1, timeout=30)
        print("machines:", ", ".join(sorted(peer.name for peer in db.peers())))


if __name__ == "__main__":
    if len(sys.argv) > 2:  # noqa: PLR2004
        turn(sys.argv[1], json.loads(sys.argv[2]))
    else:
        obey()
