// Checks the types of all TypeScript in the two pages of the book about browsers, with the package that is installed here.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const book = join(root, "../../docs");
// Within this folder, so that imports find `node_modules`.
const folder = join(root, "snippets");

/** The names that the pages use without making them. */
const CONTEXT = `
declare const field: import("@aether-bus/client").Field;
declare const shop: import("@aether-bus/client").Bus;
`;
const CONFIG = { extends: "../tsconfig.json", compilerOptions: { noUnusedLocals: false }, include: ["."] };

after(() => rm(folder, { recursive: true, force: true }));

async function check(snippets) {
  await rm(folder, { recursive: true, force: true });
  await mkdir(join(folder, "app"), { recursive: true });
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify(CONFIG));
  await writeFile(join(folder, "context.d.ts"), CONTEXT);
  for (const [name, code] of snippets) await writeFile(join(folder, name), code);
  const { status, stdout, stderr, error } = spawnSync(join(root, "node_modules/.bin/tsc"), ["--noEmit", "-p", folder], { encoding: "utf8" });
  if (error) throw error;
  return { status, output: stdout + stderr };
}

/** Each block as a module, in which it has the line numbers of the page; named by its first line if this is a comment with a path. */
async function blocksOf(page) {
  const text = await readFile(join(book, page), "utf8");
  return [...text.matchAll(/^```(tsx?)\n(.*?)^```$/gms)].map((found) => {
    const [, kind, code] = found;
    const line = text.slice(0, found.index).split("\n").length;
    const [, path = `line-${line}.${kind}`] = /^\/\/ ([\w/]+\.tsx?)\n/.exec(code) ?? [];
    return [path, `${"\n".repeat(line)}${code}export {};\n`];
  });
}

for (const page of ["start/browser.md", "guide/browser.md"]) {
  test(page, async () => {
    const blocks = await blocksOf(page);
    assert.ok(blocks.length > 0, "the page has no snippets");
    const { status, output } = await check(blocks);
    assert.equal(status, 0, output);
  });
}

test("a wrong snippet is found", async () => {
  const { status, output } = await check([["wrong.ts", "field.set('a');\nexport {};\n"]]);
  assert.notEqual(status, 0);
  assert.match(output, /wrong\.ts.*TS2554/);
});
