// Pictures of the pages, for people: of each page, and those of the README.

import { mkdir } from "node:fs/promises";
import { animated } from "./animation.mjs";

/** Where pictures are written, if they are wanted. */
export const PICTURES = process.env.AETHER_PICTURES;

export async function picture(page, name) {
  if (!PICTURES) return;
  await mkdir(PICTURES, { recursive: true });
  await page.screenshot({ path: `${PICTURES}/${name}.png` });
}

/** For a reader whose screen is light, and for one whose screen is dark. */
export async function pictures(page, name) {
  await picture(page, name);
  await page.emulateMedia({ colorScheme: "dark" });
  // The colours of the chart are read when it is drawn.
  await page.waitForTimeout(1_500);
  await picture(page, `${name}-dark`);
  await page.emulateMedia({ colorScheme: "light" });
}

/** Pictures one after the other, which become one file that moves. */
export async function recorded(page, size, story) {
  const devtools = await page.context().newCDPSession(page);
  const frames = [];
  let last = performance.now();
  let ended = false;
  const telling = story().finally(() => (ended = true));
  while (!ended) {
    const { data } = await devtools.send("Page.captureScreenshot", { format: "webp", quality: 60 });
    const now = performance.now();
    frames.push({ still: Buffer.from(data, "base64"), milliseconds: now - last });
    last = now;
    await page.waitForTimeout(500);
  }
  await telling;
  return animated(frames, size);
}
