// A project in a folder of its own, with the packed tarball in its node_modules, as npm would install it.
import { execFileSync } from "node:child_process";
import { cp, mkdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { folder, root } from "../harness.mjs";

let packed;

/** The path of the tarball of what is in dist/. */
export function tarball() {
  packed ??= (async () => {
    const to = await folder();
    // The build is not run again: the tests are of the one that is there.
    const output = execFileSync("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", to], { cwd: root, encoding: "utf8" });
    const listed = JSON.parse(output);
    const [{ filename, files }] = Array.isArray(listed) ? listed : Object.values(listed);
    return { path: join(to, filename), files: files.map(({ path }) => path) };
  })();
  return packed;
}

/** Makes a project of these files ({path: text}). `modules` are linked from the folder `from`. */
export async function project(files, { modules = [], from = join(root, "node_modules"), copy } = {}) {
  const at = await folder();
  const own = join(at, "node_modules", "@aether-bus", "client");
  await mkdir(own, { recursive: true });
  execFileSync("tar", ["-xzf", (await tarball()).path, "--strip-components=1", "-C", own]);
  for (const name of modules) {
    await mkdir(dirname(join(at, "node_modules", name)), { recursive: true });
    await symlink(join(from, name), join(at, "node_modules", name));
  }
  if (copy) await cp(copy, at, { recursive: true });
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(at, path)), { recursive: true });
    await writeFile(join(at, path), text);
  }
  return at;
}
