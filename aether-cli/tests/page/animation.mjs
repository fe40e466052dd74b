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

/** One file of `{still, milliseconds}`, all of one size, which is played without an end. */
export function animated(frames, { width, height }) {
  const size = threes(width - 1, height - 1);
  // The second bit of the flags is "has an animation"; that of a frame, "do not blend".
  const header = chunk("VP8X", Buffer.from([0b10, 0, 0, 0]), size);
  const loop = chunk("ANIM", Buffer.from([255, 255, 255, 255, 0, 0]));
  const all = frames.map(({ still, milliseconds }) =>
    chunk("ANMF", threes(0, 0), size, threes(Math.round(milliseconds)), Buffer.from([0b10]), ...image(still)));
  return chunk("RIFF", Buffer.from("WEBP"), header, loop, ...all);
}
