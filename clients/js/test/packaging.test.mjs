// The package as it is published: its types in all resolutions, ESM and CJS in one process, `<script>`, esbuild.
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { build } from "esbuild";
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { Browser, Gateway, root, servePages, stopAll } from "./harness.mjs";
import { project, tarball } from "./packaging/tarball.mjs";

after(stopAll);

const require = createRequire(import.meta.url);
const tsc = join(dirname(require.resolve("typescript/package.json")), "bin", "tsc");
const types = ["react", "@types/react", "csstype"];
const run = (args, cwd) => {
  // A test runner within one would report to the outer one, and print nothing.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  try {
    return execFileSync(process.execPath, args, { cwd, env, encoding: "utf8", stdio: "pipe", timeout: 240_000 });
  } catch (error) {
    throw new Error(`${args.join(" ")}:\n${error.stdout}${error.stderr}`);
  }
};

test("the tarball has what `exports` names, and nothing of the sources and tests", async () => {
  const { files } = await tarball();
  const { exports } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  const named = [];
  const collect = (value) => (typeof value === "string" ? named.push(value.slice(2)) : Object.values(value).forEach(collect));
  collect(exports);
  assert.ok(named.length > 16, "the test looks at nothing");
  assert.deepEqual(named.filter((path) => !files.includes(path)), []);
  assert.deepEqual(files.filter((path) => !/^(?:dist\/.*|package\.json|README\.md|LICENSE)$/.test(path)), []);
});

test("publint has nothing to say", async () => {
  const { messages, pkg } = await publint({ strict: true, pack: { tarball: await buffer((await tarball()).path) } });
  assert.deepEqual(messages.map((message) => formatMessage(message, pkg, { color: false })), []);
});

test("the types are right for import and require", async () => {
  const { problems, entrypoints } = await checkPackage(createPackageFromTarballData(new Uint8Array(await readFile((await tarball()).path))));
  assert.deepEqual(Object.keys(entrypoints).sort(), [".", "./compat", "./compat/react", "./package.json", "./react", "./react/suspense"]);
  // Resolution as in Node 10 knows no `exports`; the package is for Node 20 and later.
  assert.deepEqual(problems.filter((problem) => problem.resolutionKind !== "node10"), []);
});

for (const [name, module, resolution] of [
  ["node16", "node16", "node16"],
  ["nodenext", "nodenext", "nodenext"],
  ["bundler", "esnext", "bundler"],
]) {
  test(`the types compile with tsc --strict, resolution ${name}`, async () => {
    const at = await project(
      { "package.json": '{"type":"module"}', "tsconfig.json": tsconfig(module, resolution) },
      { modules: types, copy: join(root, "test", "packaging", "types") },
    );
    run([tsc, "-p", "."], at);
  });
}

test("a wrong type is an error: the tests of the types can fail", async () => {
  const wrong = 'import { bus } from "@aether-bus/client"; const n: number = bus("ws://x").status; void n;';
  const at = await project({ "package.json": '{"type":"module"}', "tsconfig.json": tsconfig("nodenext", "nodenext"), "wrong.ts": wrong }, { modules: types });
  assert.throws(() => run([tsc, "-p", "."], at), /TS2322/);
});

test("node --test with import and require", async () => {
  const body = (get) => `
    test("entries", async () => {
      ${get}
      for (const name of ["connect", "bus"]) assert.equal(typeof client[name], "function", name);
      assert.ok(Object.keys(react).some((name) => /^use/.test(name)));
      assert.ok(Object.keys(suspense).length > 0);
      assert.equal(typeof compat.Aether, "function");
    });`;
  const imports = ["", "/react", "/react/suspense", "/compat"].map((path) => `@aether-bus/client${path}`);
  const at = await project(
    {
      "package.json": "{}",
      "esm.test.mjs": `import { test } from "node:test"; import assert from "node:assert";
        ${body(`const [client, react, suspense, compat] = await Promise.all(${JSON.stringify(imports)}.map((name) => import(name)));`)}`,
      "cjs.test.cjs": `const { test } = require("node:test"); const assert = require("node:assert");
        ${body(`const [client, react, suspense, compat] = ${JSON.stringify(imports)}.map((name) => require(name));`)}`,
    },
    { modules: ["react"] },
  );
  const output = run(["--test", "--test-reporter=tap", "esm.test.mjs", "cjs.test.cjs"], at);
  assert.match(output, /# pass 2/);
});

// A program gets both copies when one of its dependencies is CJS and another is ESM. In a page they are like two tabs, and in
// Node like two programs: each has a connection of its own, and a close of one is none of the other.
test("import and require in one process are two clients that do not disturb each other", async () => {
  const gateway = await Gateway.start();
  const at = await project(
    {
      "package.json": "{}",
      "both.test.cjs": `const { test } = require("node:test"); const assert = require("node:assert");
      const { WebSocket } = require("ws");
      const { connect } = require("@aether-bus/client");
      test("import and require", async () => {
        const esm = await import("@aether-bus/client");
        assert.notEqual(esm.connect, connect, "two copies of the code");
        const [one, two] = [connect, esm.connect].map((connect) => connect(${JSON.stringify(gateway.field())}, { WebSocket }));
        const shows = (field, key, value) => new Promise((resolve) => field.on(key, (change) => change.value === value && resolve(), { now: true }));
        try {
          await one.set("k", 1);
          await shows(two, "k", 1);
          await one.close();
          await two.set("k", 2);
          assert.equal(two.get("k"), 2);
        } finally {
          await two.close();
        }
      });`,
    },
    { modules: ["ws"] },
  );
  assert.match(run(["--test", "--test-reporter=tap", "both.test.cjs"], at), /# pass 1/);
});

test("the entries share one copy of the client", async () => {
  const names = (await readdir(join(root, "dist"))).filter((name) => /\.c?js$/.test(name) && !name.endsWith(".min.js"));
  for (const type of [/[^c]js$/, /\.cjs$/]) {
    const holders = [];
    for (const name of names.filter((name) => type.test(name))) {
      if ((await readFile(join(root, "dist", name), "utf8")).includes("the bus is closed")) holders.push(name);
    }
    assert.equal(holders.length, 1, `${type}: ${holders}`);
  }
});

test("the file for <script> has everything in AetherClient", async () => {
  const pages = await servePages({ "/script.html": '<!doctype html><script src="/aether-client.min.js"></script>' });
  const browser = await Browser.start();
  const tab = await (await browser.profile()).tab(`${pages.url}/script.html`);
  const esm = await import(join(root, "dist", "index.js"));
  assert.deepEqual((await tab.run(() => Object.keys(AetherClient))).sort(), Object.keys(esm).sort());
  assert.deepEqual(tab.errors, []);
  await browser.close();
});

test("esbuild leaves out what a page does not use", async () => {
  const at = await project({ "package.json": "{}", "none.js": 'import "@aether-bus/client";', "all.js": 'import { bus } from "@aether-bus/client"; globalThis.b = bus;' });
  const size = async (name) => {
    const { outputFiles } = await build({ entryPoints: [join(at, name)], bundle: true, minify: true, format: "esm", write: false, logLevel: "silent" });
    return outputFiles[0].contents.length;
  };
  assert.ok((await size("none.js")) < 200, "sideEffects is false");
  assert.ok((await size("all.js")) > 1000);
});

test("the source maps have the package's sources, with their text", async () => {
  const names = (await readdir(join(root, "dist"))).filter((name) => name.endsWith(".map"));
  const of = new Map();
  for (const name of names) {
    const map = JSON.parse(await readFile(join(root, "dist", name), "utf8"));
    assert.deepEqual(map.sources.filter((source) => !existsSync(join(root, "dist", source))), [], name);
    assert.equal(map.sourcesContent.length, map.sources.length);
    // An entry that only passes on what a chunk has is without sources.
    const kind = /\.(js|cjs|min\.js)\.map$/.exec(name.replace(/^aether-\w+\.min/, "x.min"))[1];
    of.set(kind, [...(of.get(kind) ?? []), ...map.sources]);
  }
  for (const kind of ["js", "cjs", "min.js"]) assert.ok(of.get(kind)?.includes("../src/bus.ts"), `${kind}: ${of.get(kind)}`);
});

function tsconfig(module, moduleResolution) {
  return JSON.stringify({
    compilerOptions: { module, moduleResolution, target: "es2020", lib: ["es2020", "dom"], jsx: "react-jsx", types: [], strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: false, noEmit: true },
    include: ["**/*"],
    exclude: ["node_modules"],
  });
}

async function buffer(path) {
  const { buffer, byteOffset, byteLength } = await readFile(path);
  return buffer.slice(byteOffset, byteOffset + byteLength);
}
