// The options of esbuild.
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

// Of what is newer than ES2020, private names and class fields are kept: all browsers since 2021 have them, and what esbuild
// makes of them otherwise is a fourth larger, and slow.
export const supported = {
  "class-private-accessor": true,
  "class-private-field": true,
  "class-private-method": true,
  "class-field": true,
};
/** What all bundles have in common. */
export const options = { bundle: true, target: "es2020", supported, sourcemap: true, legalComments: "none", logLevel: "warning", absWorkingDir: dirname(fileURLToPath(import.meta.url)) };
