// Bundles test code with one of the versions of React, for a page or for Node, with a fake in place of the client or without.
import { build } from "esbuild";
import { join } from "node:path";
import { root } from "./harness.mjs";

export const VERSIONS = ["18", "19"];

export async function bundle(file, version, { platform = "browser", fake = true, contents, minify = false } = {}) {
  const suffix = version === "19" ? "" : `-${version}`;
  const input = contents ? { stdin: { contents, resolveDir: join(root, "test"), loader: "js" } } : { entryPoints: [join(root, "test", file)] };
  const { outputFiles } = await build({
    ...input,
    bundle: true,
    write: false,
    minify,
    format: platform === "node" ? "esm" : "iife",
    globalName: platform === "node" ? undefined : "bundled",
    platform,
    target: "es2022",
    absWorkingDir: root,
    define: { "process.env.NODE_ENV": '"development"' },
    alias: { react: `react${suffix}`, "react-dom": `react-dom${suffix}` },
    banner: platform === "node" ? { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" } : {},
    plugins: fake ? [{ name: "fake", setup: (build) => build.onResolve({ filter: /^\.\.\/index\.js$/ }, () => ({ path: join(root, "test", "react-fake.mjs") })) }] : [],
  });
  return outputFiles[0].text;
}

/** Runs a bundle in Node and returns what it exports. */
export async function runInNode(code) {
  return import(`data:text/javascript;base64,${Buffer.from(code.replace("import.meta.url", JSON.stringify(`file://${root}/test/`))).toString("base64")}`);
}
