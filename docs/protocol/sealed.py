#!/usr/bin/env python3
"""Opens sealed frames, and checks the known answers: where this program and Aether disagree, one of the two or the
description in sealed.md is wrong, from which alone it is written. Needs Python 3.8 and no packages. It is slow, and
not for secrets: its time depends on them.

    sealed.py FILE...                                     checks files of known answers
    sealed.py --keys FILE --role ROLE --address SUBJECT MESSAGE...   opens messages, one line of JSON each
    sealed.py --keys FILE --signers FILE ...              the same, and refuses what nobody of the list signed
"""

import argparse
import base64
import hashlib
import hmac
import json
import struct
import sys

import decoder
import ed25519

MAGIC, VERSION, SIGNED_VERSION = b"\xaeTH", 0x81, 0x82
SIGNATURE = 8 + 64
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


def signer_id(public_key):
    return hashlib.sha256(b"aether-signer-id-1" + public_key).digest()[:8]


def statement(role, address, header, inner):
    parts = b"".join(struct.pack("<Q", len(part)) + part for part in (role.encode(), address.encode()))
    return b"aether-signature-1" + hashlib.sha256(parts + header + inner).digest()


def seal(key, role, address, nonce, sender, counter, sealed_micros, reply, frame, signing_secret=None):
    header = MAGIC + bytes([SIGNED_VERSION if signing_secret else VERSION]) + derived(key, "id", 8)
    inner = struct.pack("<QQQH", sender, counter, sealed_micros, len(reply.encode())) + reply.encode() + frame
    if signing_secret:
        signature = ed25519.sign(signing_secret, statement(role, address, header, inner))
        inner += signer_id(ed25519.public_key(signing_secret)) + signature
    cipher_key, cipher_nonce = extended(derived(key, role, 32), nonce)
    cipher_text = stream(cipher_key, cipher_nonce, inner)
    return header + nonce + cipher_text + tag_of(cipher_key, cipher_nonce, header + address.encode(), cipher_text)


def unseal(keys, role, address, message, signers=None):
    """The fields of a message, or the reason why it is refused. Windows are not kept. `signers` are public keys; without them
    signatures are not looked at."""
    if message[:3] != MAGIC or message[3:4] not in (bytes([VERSION]), bytes([SIGNED_VERSION])):
        return {"refused": "plain"}
    is_signed = message[3] == SIGNED_VERSION
    if len(message) < 12:
        return {"refused": "tampered"}
    key = next((key for key in keys if derived(key, "id", 8) == message[4:12]), None)
    if key is None:
        return {"refused": "unknown key", "key": message[4:12].hex()}
    cipher_text, tag = message[36:-16], message[-16:]
    if len(message) < 36 + 26 + 16 + (SIGNATURE if is_signed else 0):
        return {"refused": "tampered"}
    cipher_key, nonce = extended(derived(key, role, 32), message[12:36])
    associated = message[:12] + address.encode()
    if not hmac.compare_digest(tag, tag_of(cipher_key, nonce, associated, cipher_text)):
        return {"refused": "tampered"}
    inner = stream(cipher_key, nonce, cipher_text)
    inner, signature = (inner[:-SIGNATURE], inner[-SIGNATURE:]) if is_signed else (inner, None)
    sender, counter, sealed_micros, length = struct.unpack("<QQQH", inner[:26])
    reply, frame = inner[26 : 26 + length], inner[26 + length :]
    try:
        reply = reply.decode()
    except UnicodeDecodeError:
        return {"refused": "tampered"}
    if len(inner) < 26 + length:
        return {"refused": "tampered"}
    opened = {"key": message[4:12].hex(), "sender": f"{sender:x}", "counter": str(counter)}
    opened = {**opened, "sealed_micros": str(sealed_micros), "reply": reply, "frame_hex": frame.hex()}
    if signers is None:
        return opened
    if signature is None:
        return {"refused": "unsigned"}
    signer = next((signer for signer in signers if signer_id(signer) == signature[:8]), None)
    if signer is None:
        return {"refused": "unknown signer", "signer": signature[:8].hex()}
    if not ed25519.is_signed(signer, statement(role, address, message[:12], inner), signature[8:]):
        return {"refused": "forged", "signer": signature[:8].hex()}
    return {**opened, "signer": signature[:8].hex()}


def check(known):
    key, frame = bytes.fromhex(known["secret"]), bytes.fromhex(known["opened"]["frame_hex"])
    opened, role, address = dict(known["opened"]), known["role"], known["address"]
    signing_secret = bytes.fromhex(known.get("signing_secret", "")) or None
    signer = opened.pop("signer", None)
    numbers = int(opened["sender"], 16), int(opened["counter"]), int(opened["sealed_micros"])
    nonce = bytes.fromhex(known["nonce"])
    sealed = seal(key, role, address, nonce, *numbers, opened["reply"], frame, signing_secret)
    assert sealed.hex() == known["sealed"], f"{known['name']}: sealed as {sealed.hex()}"
    assert unseal([key], role, address, sealed) == opened, f"{known['name']}: {unseal([key], role, address, sealed)}"
    others = [other for other in ROLES if other != role]
    assert all(unseal([key], other, address, sealed) == {"refused": "tampered"} for other in others)
    assert unseal([key], role, address + "x", sealed) == {"refused": "tampered"}
    assert unseal([bytes(32)], role, address, sealed)["refused"] == "unknown key"
    if signing_secret:
        check_signature(known, sealed, signer)
    else:
        assert unseal([key], role, address, sealed, []) == {"refused": "unsigned"}
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 1
        assert "refused" in unseal([key], role, address, bytes(altered)), f"{known['name']}: byte {at}"
        assert "refused" in unseal([key], role, address, sealed[:at]), f"{known['name']}: cut at {at}"


def check_signature(known, sealed, signer):
    """A member of the group, who has the key of the seal, alters nothing of what another one signed."""
    key, role, address = bytes.fromhex(known["secret"]), known["role"], known["address"]
    secret, name = bytes.fromhex(known["signing_secret"]), known["name"]
    public_key = ed25519.public_key(secret)
    assert public_key.hex() == known["public_key"], f"{name}: the public key is {public_key.hex()}"
    opened = unseal([key], role, address, sealed, [public_key])
    assert opened == known["opened"] and opened["signer"] == signer, f"{name}: {opened}"
    assert unseal([key], role, address, sealed, []) == {"refused": "unknown signer", "signer": signer}

    def resealed(role, address, change):
        cipher_key, nonce = extended(derived(key, known["role"], 32), sealed[12:36])
        inner = change(stream(cipher_key, nonce, sealed[36:-16]))
        cipher_key, nonce = extended(derived(key, role, 32), sealed[12:36])
        cipher_text = stream(cipher_key, nonce, inner)
        return sealed[:36] + cipher_text + tag_of(cipher_key, nonce, sealed[:12] + address.encode(), cipher_text)

    forged = {"refused": "forged", "signer": signer}
    assert resealed(role, address, bytes) == sealed
    assert unseal([key], role, address + "x", resealed(role, address + "x", bytes), [public_key]) == forged
    other = next(other for other in ROLES if other != role)
    assert unseal([key], other, address, resealed(other, address, bytes), [public_key]) == forged
    size = len(sealed) - 36 - 16
    for at in (0, 8, 16, size - SIGNATURE - 1, size - 64, size - 1):
        altered = resealed(role, address, lambda inner: inner[:at] + bytes([inner[at] ^ 1]) + inner[at + 1 :])
        assert unseal([key], role, address, altered, [public_key]) == forged, f"{name}: byte {at} of the inner part"


def keys_of(path):
    with open(path) as file:
        lines = [line.split() for line in file if line.strip() and not line.lstrip().startswith("#")]
    text = [key[len("aether-key-1:") :] for use, key in lines if use in ("seal", "open")]
    return [base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)) for key in text]


def signers_of(path):
    """The entries of a list: names, or beginnings with `*`, and public keys."""
    with open(path) as file:
        lines = [line.strip() for line in file if line.strip() and not line.lstrip().startswith("#")]
    entries = [line.rsplit(None, 1) for line in lines]
    text = [(name, key[len("aether-signer-1:") :]) for name, key in entries]
    return [(name, base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))) for name, key in text]


def is_permitted(signers, signer, name):
    entries = [listed for listed, key in signers if signer_id(key).hex() == signer]
    return name == "_aether" or any(
        name.startswith(listed[:-1]) if listed.endswith("*") else name == listed for listed in entries
    )


def main():
    arguments = argparse.ArgumentParser(description="Opens sealed frames, or checks known answers.")
    arguments.add_argument("--keys", metavar="FILE", help="the file with the keys")
    arguments.add_argument("--signers", metavar="FILE", help="the list of signers")
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
        signers = signers_of(arguments.signers) if arguments.signers else None
        public_keys = [key for _, key in signers] if signers is not None else None
        opened = unseal(keys_of(arguments.keys), arguments.role, arguments.address, data, public_keys)
        if "refused" not in opened and arguments.role not in ("answers", "stored"):
            channel = arguments.address.partition(".")[2]
            opened["frame"] = decoder.read_frame(bytes.fromhex(opened.pop("frame_hex")), channel)
            names = [wave["source"] for wave in opened["frame"]["waves"] if arguments.role != "copies"]
            if signers is not None and not all(is_permitted(signers, opened["signer"], name) for name in names):
                opened = {"refused": "misnamed", "signer": opened["signer"]}
        if "refused" in opened:
            refused = 1
        print(json.dumps(opened))
    return refused


if __name__ == "__main__":
    sys.exit(main())
