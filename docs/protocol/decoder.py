#!/usr/bin/env python3
"""Reads Aether frames, and says what is in them: one line of JSON a file.

Written from README.md beside this file, whose words it uses, and from nothing else: where this decoder and Aether
disagree, one of the two or the description is wrong. Needs Python 3.8 and no packages.

    decoder.py [--address CHANNEL] FILE...
    decoder.py [--address CHANNEL] -        frames from standard input, one a line, in hexadecimal

A frame that README.md does not allow gives {"refused": why}, and the exit status 1.
"""

import argparse
import json
import math
import struct
import sys
import unicodedata

KINDS = ["event", "command", "query", "response", "broadcast"]
CONTENT_TYPES = ["application/octet-stream", "application/json", "text/plain"]
NEVER = 255
FLOOR = 4096
POSITION = 1
TURN = struct.unpack("<f", struct.pack("<f", 2 * math.pi))[0]


class Refused(Exception):
    """The bytes are not a frame."""


def need(condition, why):
    if not condition:
        raise Refused(why)


class Part:
    """Bytes that are read from the front: a frame, a record or a field."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, length):
        need(length <= self.left(), f"cut off: {length} bytes are wanted, {self.left()} are left")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.number("B")
            value |= (byte & 0x7F) << shift
            need(byte or not shift, "a varint that is not in its shortest form")
            need(value < 1 << 64 and shift < 70, "a varint of more than 64 bits")
            if byte < 0x80:
                return value
            shift += 7

    def text(self, length=None):
        try:
            return self.take(self.varint() if length is None else length).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("text that is not UTF-8") from None

    def rest(self):
        return self.text(self.left())

    def fields(self):
        """The extension fields, by tag."""
        part, fields, before = Part(self.take(self.number("H"))), {}, -1
        while part.left():
            tag = part.varint()
            need(tag > before, "tags that do not rise")
            fields[tag], before = Part(part.take(part.varint())), tag
        return fields


def has_control(text):
    return any(unicodedata.category(character) == "Cc" for character in text)


def graphic(text, but=""):
    return text != "" and all("\x21" <= character <= "\x7e" and character not in but for character in text)


def check_channel(name):
    need(len(name.encode()) <= 255, "a channel of more than 255 bytes")
    need(name.count(".") < 16, "a channel of more than 16 tokens")
    need(all(graphic(token, "*>") for token in name.split(".")), "not a channel")


def check_source(name):
    need(1 <= len(name.encode()) <= 128 and not has_control(name), "not the name of a source")
    return name


def identity(name, instance, sequence):
    return f"{name}@{instance:x}/{sequence}"


def read_phase(field):
    phase = field.number("f")
    need(math.isfinite(phase), "a phase that is not finite")
    phase = math.fmod(phase, TURN)
    if phase < 0:
        phase = struct.unpack("<f", struct.pack("<f", phase + TURN))[0]
    return phase if phase < TURN else 0.0


def read_key(field):
    key = field.rest()
    need(1 <= len(key.encode()) <= 255, "a coherence key that is empty or too long")
    return key


def read_id(field):
    instance, sequence = field.number("Q"), field.varint()
    return identity(check_source(field.rest()), instance, sequence)


def read_metadata(field):
    entries = []
    while field.left():
        entries.append([field.text(), field.text()])
    need(len(entries) <= 32, "more than 32 entries of metadata")
    need(sum(len((name + value).encode()) for name, value in entries) <= 8192, "more than 8192 bytes of metadata")
    need(all(graphic(name, ":") and not has_control(value) for name, value in entries), "metadata with wrong characters")
    return entries


def token(text):
    return text != "" and all(character.isascii() and (character.isalnum() or character in "!#$%&'*+-.^_`|~") for character in text)


def read_baggage(field):
    entries = []
    while field.left():
        entries.append([field.text(), field.text()])
        need(len(entries) <= 16, "more than 16 entries of baggage")
    names = [name.encode() for name, _ in entries]
    need(all(before < name for before, name in zip(names, names[1:])), "names of baggage that do not rise")
    need(sum(len((name + value).encode()) for name, value in entries) <= 1024, "more than 1024 bytes of baggage")
    need(all(token(name) and not has_control(value) for name, value in entries), "baggage with wrong characters")
    return entries


def read_media_type(field):
    media_type = field.rest()
    essence = media_type.split(";")[0].strip(" ")
    need(len(media_type) <= 255 and essence != "", "a media type that is empty or too long")
    need(all(" " <= character <= "\x7e" for character in media_type), "a media type with wrong characters")
    return essence if essence in CONTENT_TYPES else media_type


def read_trace(field):
    trace_id, span_id, flags, state = field.take(16), field.take(8), field.number("B"), field.rest()
    need(any(trace_id) and any(span_id), "an id of a trace that is zero")
    need(len(state) <= 512 and all(" " <= character <= "\x7e" for character in state), "a wrong tracestate")
    return [f"00-{trace_id.hex()}-{span_id.hex()}-{flags:02x}", state or None]


EXTENSIONS = {
    1: read_phase,
    2: read_key,
    3: read_id,
    4: read_metadata,
    5: read_media_type,
    6: read_id,
    7: read_baggage,
    8: read_trace,
}


def read_wave(record, sources):
    source, kind, loss, half_life, hops, code = (record.number(form) for form in "HBHBBB")
    need(source < len(sources), "a source that is not in the table")
    need(kind < len(KINDS) and (half_life <= 40 or half_life == NEVER) and hops <= 10, "a value that is not defined")
    sequence, age = record.varint(), record.varint()
    known = {tag: field for tag, field in record.fields().items() if tag in EXTENSIONS}
    values = {tag: EXTENSIONS[tag](field) for tag, field in known.items()}
    need(not any(field.left() for field in known.values()), "bytes left over in a field")
    need(code < len(CONTENT_TYPES) or code == 255, "a content type code that is not defined")
    need((code == 255) == (5 in values), "a content type code and a media type that do not fit")

    path_loss = loss + 152 * hops
    decay = 0 if half_life == NEVER else min((age * 2048 // 1000) >> half_life, 2**30 - 1)
    if FLOOR < path_loss:
        audible_until = "inaudible"
    elif half_life == NEVER:
        audible_until = "never"
    else:
        audible_until = str((1000 * ((FLOOR - path_loss + 1) << half_life) - 1) // 2048)
    instance, name = sources[source]
    itself = identity(name, instance, sequence)
    return {
        "id": itself,
        "source": name,
        "instance": f"{instance:x}",
        "sequence": str(sequence),
        "kind": KINDS[kind],
        "loss": loss,
        "half_life_class": half_life,
        "hops": hops,
        "age_micros": str(age),
        "phase": values.get(1, 0.0),
        "key": values.get(2),
        "cause": values.get(3),
        "root": values.get(6) or values.get(3) or itself,
        "baggage": values.get(7, []),
        # Where the field is missing, receivers take the metadata of these names.
        "traceparent": values.get(8, [None, None])[0],
        "tracestate": values.get(8, [None, None])[1],
        "metadata": values.get(4, []),
        "content_type": values[5] if code == 255 else CONTENT_TYPES[code],
        "payload_hex": record.take(record.left()).hex(),
        "loss_at_age": path_loss + decay,
        "level": min(63, path_loss // 512),
        "audible_until_micros": audible_until,
    }


def read_position(field):
    position = {name: str(field.varint()) for name in ("stream", "first", "age_micros")}
    need(field.left() == 0, "bytes left over in a field")
    return position


def read_frame(data, address=None):
    frame = Part(data)
    need(data[:3] == b"\xaeTH", "not a frame")
    frame.take(3)
    need(frame.number("B") == 1, "a version that is not known")
    node, sent = frame.number("Q"), frame.number("Q")
    channel = frame.text()
    need(not (channel and address) or channel == address, "frame and address name two channels")
    channel = channel or address or ""
    check_channel(channel)

    count = frame.varint()
    need(count <= frame.left() // 10, "more sources than there are bytes for")
    sources = [(frame.number("Q"), check_source(frame.text())) for _ in range(count)]
    position = frame.fields().get(POSITION)
    count = frame.varint()
    need(count or position, "neither waves nor a position")
    need(count <= frame.left() // 16, "more waves than there are bytes for")
    waves = [read_wave(Part(frame.take(frame.number("I"))), sources) for _ in range(count)]
    need(frame.left() == 0, "bytes left over after the last wave")
    read = {"node": f"{node:x}", "sent_micros": str(sent), "channel": channel, "waves": waves}
    if position:
        read["position"] = read_position(position)
    return read


def frames(names):
    for name in names:
        if name == "-":
            yield from (bytes.fromhex(line) for line in sys.stdin)
        else:
            with open(name, "rb") as file:
                yield file.read()


def main():
    arguments = argparse.ArgumentParser(description="Says what Aether frames hold, one line of JSON a file.")
    arguments.add_argument("--address", metavar="CHANNEL", help="the channel that the medium's address names")
    arguments.add_argument("files", metavar="FILE", nargs="+")
    arguments = arguments.parse_args()
    refused = 0
    for data in frames(arguments.files):
        try:
            read = read_frame(data, arguments.address)
        except Refused as why:
            read, refused = {"refused": str(why)}, 1
        print(json.dumps(read))
    return refused


if __name__ == "__main__":
    sys.exit(main())
