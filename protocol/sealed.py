#!/usr/bin/env python3
"""Opens sealed frames, and checks the known answers: where this program and Aether disagree, one of the two or the
description in sealed.md is wrong, from which alone it is written. Needs Python 3.8 and no packages. It is slow, and
not for secrets: its time depends on them.

    sealed.py FILE...                                     checks files of known answers
    sealed.py --keys FILE --role ROLE --address SUBJECT MESSAGE...   opens messages, one line of JSON each
"""

import argparse
import base64
import hashlib
import hmac
import json
import struct
import sys

import decoder

MAGIC, VERSION = b"\xaeTH", 0x81
ROLES = ["waves", "questions", "answers", "copies", "control", "stored"]


# RFC 8439


def rotate(value, bits):
    return (value << bits | value >> (32 - bits)) & 0xFFFFFFFF


def rounds(state):
    state = list(state)

    def quarter(a, b, c, d):
        for x, y, z, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] = (state[x] + state[y]) & 0xFFFFFFFF
            state[z] = rotate(state[z] ^ state[x], bits)

    for _ in range(10):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for first in range(4):
            quarter(first, 4 + (first + 1) % 4, 8 + (first + 2) % 4, 12 + (first + 3) % 4)
    return state


def initial(key, last):
    return struct.unpack("<16I", b"expand 32-byte k" + key + last)


def block(key, counter, nonce):
    state = initial(key, struct.pack("<I", counter) + nonce)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(rounds(state), state)))


def stream(key, nonce, data):
    out = bytearray()
    for number in range(0, len(data), 64):
        key_stream = block(key, 1 + number // 64, nonce)
        out += bytes(a ^ b for a, b in zip(data[number : number + 64], key_stream))
    return bytes(out)


def poly1305(key, data):
    r, s = int.from_bytes(key[:16], "little"), int.from_bytes(key[16:], "little")
    r &= 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(data), 16):
        total = (total + int.from_bytes(data[at : at + 16] + b"\x01", "little")) * r % ((1 << 130) - 5)
    return ((total + s) % (1 << 128)).to_bytes(16, "little")


def tag_of(key, nonce, associated, cipher_text):
    pad = lambda data: data + bytes(-len(data) % 16)
    lengths = struct.pack("<QQ", len(associated), len(cipher_text))
    return poly1305(block(key, 0, nonce)[:32], pad(associated) + pad(cipher_text) + lengths)


def extended(key, nonce):
    """XChaCha: a key from the first 16 bytes of the nonce, and a nonce from the rest."""
    state = rounds(initial(key, nonce[:16]))
    return struct.pack("<8I", *state[:4], *state[12:]), bytes(4) + nonce[16:]


# sealed.md


def derived(key, info, length):
    pseudo_random = hmac.new(b"aether-seal-1", key, hashlib.sha256).digest()
    return hmac.new(pseudo_random, info.encode() + b"\x01", hashlib.sha256).digest()[:length]


def seal(key, role, address, nonce, sender, counter, sealed_micros, reply, frame):
    header = MAGIC + bytes([VERSION]) + derived(key, "id", 8)
    inner = struct.pack("<QQQH", sender, counter, sealed_micros, len(reply.encode())) + reply.encode() + frame
    cipher_key, cipher_nonce = extended(derived(key, role, 32), nonce)
    cipher_text = stream(cipher_key, cipher_nonce, inner)
    return header + nonce + cipher_text + tag_of(cipher_key, cipher_nonce, header + address.encode(), cipher_text)


def unseal(keys, role, address, message):
    """The fields of a message, or the reason why it is refused. Windows are not kept."""
    if message[:4] != MAGIC + bytes([VERSION]):
        return {"refused": "plain"}
    if len(message) < 12:
        return {"refused": "tampered"}
    key = next((key for key in keys if derived(key, "id", 8) == message[4:12]), None)
    if key is None:
        return {"refused": "unknown key", "key": message[4:12].hex()}
    cipher_text, tag = message[36:-16], message[-16:]
    if len(message) < 36 + 26 + 16:
        return {"refused": "tampered"}
    cipher_key, nonce = extended(derived(key, role, 32), message[12:36])
    associated = message[:12] + address.encode()
    if not hmac.compare_digest(tag, tag_of(cipher_key, nonce, associated, cipher_text)):
        return {"refused": "tampered"}
    inner = stream(cipher_key, nonce, cipher_text)
    sender, counter, sealed_micros, length = struct.unpack("<QQQH", inner[:26])
    reply, frame = inner[26 : 26 + length], inner[26 + length :]
    try:
        reply = reply.decode()
    except UnicodeDecodeError:
        return {"refused": "tampered"}
    if len(inner) < 26 + length:
        return {"refused": "tampered"}
    opened = {"key": message[4:12].hex(), "sender": f"{sender:x}", "counter": str(counter)}
    return {**opened, "sealed_micros": str(sealed_micros), "reply": reply, "frame_hex": frame.hex()}


def check(known):
    key, frame = bytes.fromhex(known["secret"]), bytes.fromhex(known["opened"]["frame_hex"])
    opened, role, address = known["opened"], known["role"], known["address"]
    numbers = int(opened["sender"], 16), int(opened["counter"]), int(opened["sealed_micros"])
    sealed = seal(key, role, address, bytes.fromhex(known["nonce"]), *numbers, opened["reply"], frame)
    assert sealed.hex() == known["sealed"], f"{known['name']}: sealed as {sealed.hex()}"
    assert unseal([key], role, address, sealed) == opened, f"{known['name']}: {unseal([key], role, address, sealed)}"
    others = [other for other in ROLES if other != role]
    assert all(unseal([key], other, address, sealed) == {"refused": "tampered"} for other in others)
    assert unseal([key], role, address + "x", sealed) == {"refused": "tampered"}
    assert unseal([bytes(32)], role, address, sealed)["refused"] == "unknown key"
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 1
        assert "refused" in unseal([key], role, address, bytes(altered)), f"{known['name']}: byte {at}"
        assert "refused" in unseal([key], role, address, sealed[:at]), f"{known['name']}: cut at {at}"


def keys_of(path):
    with open(path) as file:
        lines = [line.split() for line in file if line.strip() and not line.lstrip().startswith("#")]
    text = [key[len("aether-key-1:") :] for use, key in lines if use in ("seal", "open")]
    return [base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)) for key in text]


def main():
    arguments = argparse.ArgumentParser(description="Opens sealed frames, or checks known answers.")
    arguments.add_argument("--keys", metavar="FILE", help="the file with the keys")
    arguments.add_argument("--role", choices=ROLES)
    arguments.add_argument("--address", metavar="SUBJECT")
    arguments.add_argument("files", metavar="FILE", nargs="+")
    arguments = arguments.parse_args()
    refused = 0
    for name in arguments.files:
        with open(name, "rb") as file:
            data = file.read()
        if arguments.keys is None:
            known = json.loads(data)
            for answer in known:
                check(answer)
            print(f"{name}: {len(known)} known answers")
            continue
        opened = unseal(keys_of(arguments.keys), arguments.role, arguments.address, data)
        if "refused" in opened:
            refused = 1
        elif arguments.role not in ("answers", "stored"):
            channel = arguments.address.partition(".")[2]
            opened["frame"] = decoder.read_frame(bytes.fromhex(opened.pop("frame_hex")), channel)
        print(json.dumps(opened))
    return refused


if __name__ == "__main__":
    sys.exit(main())
