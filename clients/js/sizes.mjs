// Says what each source adds to the client: `node sizes.mjs [src/react/index.ts]`. In bytes: minified; and how much less gzip makes of
// the client without it and without what only it uses.
import { build } from "esbuild";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { options } from "./options.mjs";

const root = dirname(fileURLToPath(import.meta.url));
const entry = process.argv[2] ?? "src/index.ts";

const whole = await bundle();
const [output] = Object.values(whole.metafile.outputs);
const rows = [];
for (const [path, { bytesInOutput }] of Object.entries(output.inputs)) {
  if (bytesInOutput && path !== entry) rows.push([bytesInOutput, whole.gzipped - (await bundle(path)).gzipped, path]);
}
rows.sort((a, b) => b[1] - a[1]);
console.log(" minified  gzipped");
for (const [minified, gzipped, path] of [...rows, [whole.minified, whole.gzipped, "all"]]) {
  console.log(`${String(minified).padStart(9)}${String(gzipped).padStart(9)}  ${path}`);
}

/** Bundles the client, without one of its files. */
async function bundle(without) {
  const outside = {
    name: "outside",
    setup({ onResolve }) {
      onResolve({ filter: /^\./ }, ({ path, resolveDir }) => {
        const file = resolve(resolveDir, path.replace(/\.js$/, ".ts"));
        return without && file === resolve(root, without) ? { path: "x", external: true, sideEffects: false } : undefined;
      });
    },
  };
  const { outputFiles, metafile } = await build({ ...options, sourcemap: false, entryPoints: [entry], plugins: [outside], format: "esm", minify: true, write: false, metafile: true, external: ["react"], outdir: "x" });
  const { contents } = outputFiles[0];
  return { metafile, minified: contents.length, gzipped: gzipSync(contents, { level: 9 }).length };
}
