"""A monitor: shows what is there, and each change. `python monitor.py`."""

from __future__ import annotations

import aether


def main() -> None:
    """Show changes until Ctrl-C."""
    with aether.open("home", replica="monitor") as db:
        watch = db.watch("*")
        for key, value in db.items():
            print(key, value, flush=True)
        for change in watch:
            print(change.key, change.new, "by", change.by, flush=True)


if __name__ == "__main__":
    main()
