// An animated WebP from pictures that Chromium has made: the container is written here, the pictures stay as they are.
// The format: https://developers.google.com/speed/webp/docs/riff_container

/** The bytes of a chunk: its name, its length and its content, padded to an even number. */
function chunk(name, ...parts) {
  const content = Buffer.concat(parts);
  const head = Buffer.alloc(8);
  head.write(name, "latin1");
  head.writeUInt32LE(content.length, 4);
  return Buffer.concat([head, content, Buffer.alloc(content.length % 2)]);
}

/** Numbers of three bytes. */
function threes(...numbers) {
  const bytes = Buffer.alloc(3 * numbers.length);
  numbers.forEach((number, at) => bytes.writeUIntLE(number, 3 * at, 3));
  return bytes;
}

/** The chunks with the picture itself, of a still WebP. */
function image(still) {
  const chunks = [];
  for (let at = 12; at + 8 <= still.length; ) {
    const end = at + 8 + still.readUInt32LE(at + 4);
    if (["VP8 ", "VP8L", "ALPH"].includes(still.toString("latin1", at, at + 4))) chunks.push(still.subarray(at, end + (end % 2)));
    at = end + (end % 2);
  }
  if (chunks.length === 0) throw new Error("this is not a WebP with a picture");
  return chunks;
}

/**
 * One file of `{still, x, y, width, height, milliseconds}`, which is played without an end. A frame is drawn over the one before,
 * at an even place; where it is transparent, that stays.
 */
export function animated(frames, { width, height }) {
  // Flags: the second bit is "has an animation", the fifth "has transparency".
  const header = chunk("VP8X", Buffer.from([0b10010, 0, 0, 0]), threes(width - 1, height - 1));
  const loop = chunk("ANIM", Buffer.from([255, 255, 255, 255, 0, 0]));
  const all = frames.map(({ still, x, y, width: wide, height: high, milliseconds }) =>
    chunk("ANMF", threes(x / 2, y / 2, wide - 1, high - 1, Math.round(milliseconds)), Buffer.from([0]), ...image(still)));
  return chunk("RIFF", Buffer.from("WEBP"), header, loop, ...all);
}
