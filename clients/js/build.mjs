// Builds dist/: ESM, CJS, one file for `<script>`, source maps and types; and fails if a bundle is over its budget.
//
// CJS is made of the ESM files, one by one. So both share their chunks, and `require` of `.` and `./react` runs one client.
import { build, transform } from "esbuild";
import { execFileSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { appendFile, cp, mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { options, supported } from "./options.mjs";

const root = dirname(fileURLToPath(import.meta.url));
// Put in its place at the end, so a failed build leaves the last one, and those who use it never see half of one.
const target = join(root, "dist");
const dist = join(root, `.dist-${process.pid}`);
process.on("exit", () => rmSync(dist, { recursive: true, force: true }));
const source = (path) => join(root, "src", path);

/** The file in dist/, and the source of each entry. */
const entries = Object.fromEntries(
  [
    ["index", source("index.ts")],
    ["react", source("react/index.ts")],
    ["react-suspense", source("react/suspense.ts")],
    ["compat", source("compat.ts")],
    ["compat-react", source("compat/react.ts")],
  ].filter(([, path]) => existsSync(path)),
);

/** Budgets in bytes, minified and compressed by gzip at level 9. */
const KIB = 1024;
const budgets = { client: 21.5 * KIB, react: 2_060 };

await mkdir(dist);

await build({
  ...options,
  entryPoints: entries,
  outdir: dist,
  format: "esm",
  splitting: true,
  chunkNames: "chunk-[hash]",
  external: ["react"],
});
for (const name of (await readdir(dist)).filter((name) => name.endsWith(".js"))) await commonJs(name);
await build({ ...options, entryPoints: [source("index.ts")], outfile: join(dist, "aether-client.min.js"), format: "iife", globalName: "AetherClient", minify: true });
if ("compat" in entries) {
  await build({ ...options, entryPoints: [source("compat/script.ts")], outfile: join(dist, "aether-compat.min.js"), format: "iife", minify: true });
  // `require` of the sync engine 0.4 returns the class itself.
  await appendFile(join(dist, "compat.cjs"), "module.exports = Object.assign(module.exports.Aether, { Aether: module.exports.Aether, default: module.exports.Aether });\n");
}
// `--js` is for the hurried: the types stay as they were.
if (!process.argv.includes("--js")) await types();
else if (existsSync(join(target, "types"))) await cp(join(target, "types"), join(dist, "types"), { recursive: true });
for (const name of ["react", "react-suspense", "compat-react"].filter((name) => name in entries)) await isOfClient(name);

const sizes = [await size("client", [source("index.ts")], [])];
for (const name of ["connect", "bus"]) sizes.push(await size(`${name} alone`, `export { ${name} } from "./src/index.js";`, []));
if ("react" in entries) sizes.push(await size("react", [entries.react], [{ name: "outside-of-react", setup: outsideOfReact }]));
let over = false;
for (const { name, bytes, minified } of sizes) {
  const budget = budgets[name] ?? Infinity;
  over ||= bytes > budget;
  const bound = budget < Infinity ? ` of at most ${budget}` : "";
  console.log(`${name}: ${bytes} bytes${bound}, minified and gzipped (${minified} minified)${bytes > budget ? ": TOO LARGE" : ""}`);
}
const old = `${dist}-old`;
if (existsSync(target)) await rename(target, old);
await rename(dist, target);
await rm(old, { recursive: true, force: true });
if (over) process.exit(1);

/** Writes the CJS twin of an ESM file of dist/. */
async function commonJs(name) {
  const esm = await readFile(join(dist, name), "utf8");
  const twin = name.replace(/\.js$/, ".cjs");
  // With its source map in it, so that the new one leads to the sources, too.
  const ownMap = (await readFile(join(dist, `${name}.map`))).toString("base64");
  const whole = esm.replace(/\/\/# sourceMappingURL=.*\n?$/, `//# sourceMappingURL=data:application/json;base64,${ownMap}\n`);
  const { code, map } = await transform(whole, {
    format: "cjs",
    platform: "node",
    target: "es2020",
    supported,
    sourcemap: "external",
    sourcefile: name,
  });
  const own = code.replace(/require\("(\.\/[^"]+)\.js"\)/g, 'require("$1.cjs")');
  await writeFile(join(dist, twin), `${own}//# sourceMappingURL=${twin}.map\n`);
  await writeFile(join(dist, `${twin}.map`), map);
}

/** Writes `.d.ts` for ESM, and the same as `.d.cts` for CJS. */
async function types() {
  const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc");
  execFileSync(process.execPath, [tsc, "--emitDeclarationOnly", "--outDir", join(dist, "types")], { cwd: root, stdio: "inherit" });
  const files = await readdir(join(dist, "types"), { recursive: true });
  for (const name of files.filter((name) => name.endsWith(".d.ts"))) {
    const esm = await readFile(join(dist, "types", name), "utf8");
    const cjs = esm.replace(/((?:from|import)\s*\(?\s*["']\.{1,2}\/[^"']*)\.js(["'])/g, "$1.cjs$2");
    await writeFile(join(dist, "types", name.replace(/\.d\.ts$/, ".d.cts")), cjs);
  }
}

/** React looks for this directive at the beginning of a file, in front of all code. */
async function isOfClient(name) {
  for (const file of [`${name}.js`, `${name}.cjs`]) {
    const text = await readFile(join(dist, file), "utf8");
    if (!/^(?:"use strict";\s*)?"use client";/.test(text)) throw new Error(`${file} does not begin with "use client"`);
  }
}

/** `entry` is a list of files, or code. */
async function size(name, entry, plugins) {
  const input = Array.isArray(entry) ? { entryPoints: entry } : { stdin: { contents: entry, resolveDir: root } };
  const { outputFiles } = await build({ ...options, ...input, plugins, format: "esm", minify: true, sourcemap: false, write: false, external: ["react"], outdir: dist });
  const contents = outputFiles[0].contents;
  return { name, bytes: gzipSync(contents, { level: 9 }).length, minified: contents.length };
}

/** The client itself is not part of the size of the React entry. */
function outsideOfReact(build) {
  build.onResolve({ filter: /^\.\.\// }, ({ path }) => ({ path, external: true }));
}

