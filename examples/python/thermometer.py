"""A thermometer: writes a temperature each second. `python thermometer.py kitchen`."""

from __future__ import annotations

import random
import sys
import time

import aether


def temperature() -> float:
    """Read the sensor. This one is made up."""
    return round(random.gauss(21, 0.5), 1)


def main(room: str) -> None:
    """Write until Ctrl-C. The file keeps what was written, also by others."""
    with aether.open("home", store=f"{room}.field", replica=room) as db:
        while True:
            db[f"{room}/temperature"] = temperature()
            db.counter("readings").add()
            time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "kitchen")
