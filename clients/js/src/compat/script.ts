// For `<script>`: `window.Aether`, where pages of the sync engine 0.4 look for it.
import { Aether } from "./aether.js";

(globalThis as unknown as { Aether: typeof Aether }).Aether = Aether;
