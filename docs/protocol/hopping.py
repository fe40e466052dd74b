#!/usr/bin/env python3
"""Says where a hopping channel is, and checks the known answers: where this program and Aether disagree, one of the two
or the description in README.md is wrong, from which alone it is written. Needs Python 3.8 and no packages.

    hopping.py FILE...          checks files of known answers
"""

import base64
import hashlib
import hmac
import json
import struct
import sys

SLOTS_PER_EPOCH = 1024
DEPTH = 40


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def epoch_key(secret, epoch):
    key = mac(b"aether-hop-1", secret)
    for level in reversed(range(DEPTH)):
        # HKDF-Expand of one block: T(1) = HMAC(PRK, info | 0x01).
        key = mac(key, b"aether-hop/%d" % (epoch >> level & 1), b"\x01")
    return key


def prf(secret, label, slot, channel):
    key = epoch_key(secret, slot // SLOTS_PER_EPOCH)
    return lambda *more: mac(key, label, b"\0", struct.pack(">Q", slot), channel.encode(), *more)


def lane(draw, lanes, left_out=()):
    first, second = struct.unpack(">QQ", draw[:16])
    drawn = first * lanes >> 64
    used = [lane for lane in range(lanes) if lane not in left_out]
    return drawn if drawn in used else used[second * len(used) >> 64]


def name(secret, labels, slot, channel, lanes, left_out=()):
    lane_label, name_label = labels
    token = base64.b32encode(prf(secret, name_label, slot, channel)()[:10]).decode().lower()
    return f"hop.{lane(prf(secret, lane_label, slot, channel)(), lanes, left_out)}.{token}"


def answers(given):
    secret, slot = bytes.fromhex(given["key"]), int(given["slot"])
    channel, lanes = given["channel"], given["lanes"]
    waves, reports = (b"lane", b"name"), (b"reports-lane", b"reports")
    clock = mac(mac(b"aether-hop-clock-1", secret), b"\x01")
    return {
        "waves": name(secret, waves, slot, channel, lanes),
        "waves_without_lane_3": name(secret, waves, slot, channel, lanes, {3}),
        "reports": name(secret, reports, slot, channel, lanes),
        "seal": prf(secret, b"seal", slot, channel)(b"\0", given["said"].encode())[:16].hex(),
        "clock": mac(clock, b"name", b"\0").hex(),
    }


def main():
    count = 0
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            for given in json.load(file):
                for what, answer in answers(given).items():
                    if given[what] != answer:
                        sys.exit(f"{path}: {what} of {given['channel']} in slot {given['slot']} is {answer}")
                count += 1
    print(f"{count} answers agree")


if __name__ == "__main__":
    main()
