"""A folder that is the same on every machine: `python folder.py ./pool`."""

from __future__ import annotations

import sys

import aether


def main(folder: str) -> None:
    """Show what happens to the files until Ctrl-C."""
    with aether.mirror(folder, "home") as pool:
        for event in pool.events():
            print(event.kind, event.path, event.detail or "", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
