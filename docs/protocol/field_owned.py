#!/usr/bin/env python3
"""Checks the signatures of owned state in a field, written from field-owned.md beside this file and from nothing else:
where this program and Aether disagree, one of the two or the description is wrong. Needs Python 3.8 and no packages.

    field_owned.py FILE...          checks files of known answers

Not for use with secrets: the arithmetic takes different times for different numbers.
"""

import json
import struct
import sys

from ed25519 import is_signed

SUBJECTS = {0: b"removal", 1: b"value", 2: b"floor"}
LINK = 157


def statement(subject, field, owner, name, stamp, payload):
    parts = [b"aether field 1 " + subject, field.encode(), owner.encode(), name.encode(), stamp, payload]
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def stamp_of(given):
    return struct.pack(">QIQ", int(given["micros"]), given["logical"], int(given["writer"]))


def check_entry(given, entry):
    """The value of an entry; None for removals and floors. Raises ValueError if it is not signed."""
    key, stamp = bytes.fromhex(given["key"]), stamp_of(given["stamp"])
    if len(entry) < 73 or entry[0] not in SUBJECTS or entry[1:9] != key[:8]:
        raise ValueError("no entry of this key")
    signature, payload = entry[9:73], entry[73:]
    if entry[0] != 1 and payload:
        raise ValueError("a removal or a floor with a payload")
    signed = statement(SUBJECTS[entry[0]], given["field"], given["owner"], given["name"], stamp, payload)
    if not is_signed(key, signed, signature):
        raise ValueError("a wrong signature")
    return payload.decode() if entry[0] == 1 else None


def check_certificate(given, links):
    """The present key, in hexadecimal. Raises ValueError if it does not follow from the anchor."""
    if not links or len(links) % LINK or len(links) > 64 * LINK:
        raise ValueError("no links")
    signer, before = bytes.fromhex(given["anchor"]), (0, b"")
    for at in range(0, len(links), LINK):
        link = links[at : at + LINK]
        serial, stamp = struct.unpack(">Q", link[1:9])[0], link[73:93]
        if link[0] > 1 or (link[0] and at) or serial <= before[0] or stamp <= before[1]:
            raise ValueError("links that do not follow each other")
        if not link[0] and link[41:73] != signer:
            raise ValueError("a link that does not follow its signer")
        if not is_signed(signer, statement(b"certificate", given["field"], given["owner"], "", stamp, link[:73]), link[93:]):
            raise ValueError("a wrong signature")
        signer, before = link[9:41], (serial, stamp)
    return signer.hex()


def check_beat(given, signature):
    flags = given["asks"] | given["leaves"] << 1
    payload = struct.pack(">QB", given["number"], flags) + bytes.fromhex(given["digest"])
    stamp = struct.pack(">QIQ", 0, 0, int(given["writer"]))
    signed = statement(b"beat", given["field"], given["owner"], given["replica"], stamp, payload)
    if not is_signed(bytes.fromhex(given["key"]), signed, signature):
        raise ValueError("a wrong signature")
    return None


CHECKS = {"entry": check_entry, "certificate": check_certificate, "beat": check_beat}


def main():
    count = 0
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            for given in json.load(file):
                check, data = CHECKS[given["what"]], bytes.fromhex(given["bytes"])
                answer = check(given, data)
                if answer != given["answer"]:
                    sys.exit(f"{path}: the answer of {given['case']} is {answer}")
                # Altered bytes are refused.
                for at in range(0, len(data), 13):
                    altered = bytearray(data)
                    altered[at] ^= 1
                    try:
                        check(given, bytes(altered))
                    except ValueError:
                        continue
                    sys.exit(f"{path}: {given['case']} is taken although byte {at} is altered")
                count += 1
    print(f"{count} answers agree")


if __name__ == "__main__":
    main()
