// SHA-1 of a text, at once: `crypto.subtle` is asynchronous, and not there on pages without TLS. For colours, not for secrets.

/** The first 24 bits. */
export function sha1Head(text: string): number {
  const bytes = new TextEncoder().encode(text);
  const blocks = (bytes.length + 72) >> 6;
  const data = new DataView(new ArrayBuffer(blocks * 64));
  bytes.forEach((byte, index) => data.setUint8(index, byte));
  data.setUint8(bytes.length, 0x80);
  data.setUint32(blocks * 64 - 8, Math.floor(bytes.length / 0x20000000));
  data.setUint32(blocks * 64 - 4, bytes.length << 3);
  const state = new Uint32Array([0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0]);
  for (let block = 0; block < blocks; block++) compress(state, data, block * 64);
  return (state[0] as number) >>> 8;
}

function compress(state: Uint32Array, data: DataView, offset: number): void {
  const words = new Uint32Array(80);
  const word = (index: number): number => words[index] as number;
  for (let t = 0; t < 80; t++) words[t] = t < 16 ? data.getUint32(offset + t * 4) : rotate(word(t - 3) ^ word(t - 8) ^ word(t - 14) ^ word(t - 16), 1);
  let [a, b, c, d, e] = state as unknown as [number, number, number, number, number];
  for (let t = 0; t < 80; t++) {
    const mixed = t < 20 ? ((b & c) | (~b & d)) + 0x5a827999 : t < 40 ? (b ^ c ^ d) + 0x6ed9eba1 : t < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc : (b ^ c ^ d) + 0xca62c1d6;
    [a, b, c, d, e] = [(rotate(a, 5) + mixed + e + word(t)) >>> 0, a, rotate(b, 30), c, d];
  }
  [a, b, c, d, e].forEach((value, index) => (state[index] = (state[index] as number) + value));
}

function rotate(value: number, bits: number): number {
  return ((value << bits) | (value >>> (32 - bits))) >>> 0;
}
