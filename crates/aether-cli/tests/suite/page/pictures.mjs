// Pictures of the pages, for people: of each page, and those of the README.

import { mkdir, writeFile } from "node:fs/promises";
import { animated } from "./animation.mjs";

/** Where pictures are written, if they are wanted. */
export const PICTURES = process.env.AETHER_PICTURES;

export async function picture(page, name) {
  if (!PICTURES) return;
  await mkdir(PICTURES, { recursive: true });
  await page.screenshot({ path: `${PICTURES}/${name}.png` });
}

/** A picture of the README for a reader whose screen is light, and one for a reader whose screen is dark; both are small files. */
export async function pictures(page, name) {
  const devtools = await page.context().newCDPSession(page);
  for (const [colorScheme, file] of [["light", name], ["dark", `${name}-dark`]]) {
    await page.emulateMedia({ colorScheme });
    // The colours of the chart are read when it is drawn, and the pointer is over nothing.
    await page.mouse.move(0, 0);
    await page.waitForTimeout(1_500);
    const { data } = await devtools.send("Page.captureScreenshot", { format: "webp", quality: 80 });
    const picture = Buffer.from(data, "base64");
    if (picture.length > 150_000) throw new Error(`${file} has ${picture.length} bytes`);
    await writeFile(`${PICTURES}/${file}.webp`, picture);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await devtools.detach();
}

/** The least time between two pictures, in milliseconds. */
const PAUSE = 80;

/** Pictures one after the other, which become one file that moves. Of each only what differs from the one before is kept. */
export async function recorded(page, size, story) {
  const devtools = await page.context().newCDPSession(page);
  const taken = [];
  let ended = false;
  const telling = story().finally(() => (ended = true));
  while (!ended) {
    const { data } = await devtools.send("Page.captureScreenshot", { format: "png", optimizeForSpeed: true });
    if (data !== taken.at(-1)?.data) taken.push({ data, at: performance.now() });
    await page.waitForTimeout(PAUSE);
  }
  await telling;
  const end = performance.now();
  // A page of its own has no policy that keeps it from reading pictures.
  const workshop = await page.context().newPage();
  const frames = [];
  for (const [number, { data, at }] of taken.entries()) {
    const changed = await workshop.evaluate(difference, data);
    const milliseconds = (taken[number + 1]?.at ?? end) - at;
    if (changed) frames.push({ ...changed, still: Buffer.from(changed.still, "base64"), milliseconds });
    else frames.at(-1).milliseconds += milliseconds;
  }
  await workshop.close();
  return animated(frames, size);
}

/** Runs in a page: what a picture changes of the one before, as a WebP and its place. Nothing if it is the same. */
async function difference(png) {
  const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const now = context.getImageData(0, 0, width, height);
  const before = globalThis.before;
  globalThis.before = now;
  let place = { x: 0, y: 0, width, height };
  if (before) {
    const [a, b] = [new Uint32Array(before.data.buffer), new Uint32Array(now.data.buffer)];
    const kept = new ImageData(new Uint8ClampedArray(now.data), width, height);
    const pixels = new Uint32Array(kept.data.buffer);
    let [left, right, top, bottom] = [width, 0, height, 0];
    // Whole blocks of the format, in which a changed pixel changes its neighbours a little, too.
    const BLOCK = 16;
    for (let y = 0; y < height; y += BLOCK) {
      for (let x = 0; x < width; x += BLOCK) {
        const [endX, endY] = [Math.min(x + BLOCK, width), Math.min(y + BLOCK, height)];
        const each = function* () {
          for (let row = y; row < endY; row += 1) for (let column = x; column < endX; column += 1) yield row * width + column;
        };
        let isSame = true;
        for (const at of each()) if (a[at] !== b[at]) isSame = false;
        if (isSame) for (const at of each()) pixels[at] = 0;
        else [left, right, top, bottom] = [Math.min(left, x), Math.max(right, endX), Math.min(top, y), Math.max(bottom, endY)];
      }
    }
    if (right === 0) return null;
    place = { x: left, y: top, width: right - left, height: bottom - top };
    context.putImageData(kept, 0, 0);
  }
  const part = new OffscreenCanvas(place.width, place.height);
  part.getContext("2d").drawImage(canvas, -place.x, -place.y);
  const blob = await part.convertToBlob({ type: "image/webp", quality: 0.75 });
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return { ...place, still: btoa(binary) };
}
