// The demos in a real browser. `AETHER_PROGRAM demo` serves them.

import "./environment.mjs";
import { runAll } from "../page/stage.mjs";
import "./models.mjs";
import "./alone.mjs";
import "./hostile.mjs";
import "./outage.mjs";
import "./together.mjs";

runAll();
