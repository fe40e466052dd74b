// What the keys do.

import { html } from "./widgets.js";

let isShown = false;

/** The key of a page: the tenth has the last one of its row. */
export const keyOf = (at) => String((at + 1) % 10);

export function show(app) {
  isShown = true;
  app.draw();
}

export function dialog(app, pages) {
  const close = () => {
    isShown = false;
    app.draw();
  };
  const key = (name, does) => html`<dt><kbd>${name}</kbd></dt><dd>${does}</dd>`;
  return html`<dialog id="help" aria-labelledby="help-title" @close=${close}><h2 id="help-title">Keys</h2>
    <dl class="keys">${pages.map(([, title], at) => key(keyOf(at), title))}</dl>
    <dl class="keys">${key("/", "find, on Waves and Services")}${key("Esc", "show all channels again; leave a field")}
      ${key("p", "Waves: pause and go on")}${key("e", "Waves: emit a wave")}${key("r", "Dead letters, Queues, Durable: read again")}
      ${key("↑ ↓", "Spectrum: choose a channel")}${key("Enter", "Spectrum: narrow every page to it; Map: its waves")}${key("?", "this list")}</dl>
    <div class="actions"><button autofocus @click=${close}>Close</button></div></dialog>`;
}

export function after() {
  const element = document.getElementById("help");
  if (isShown && element && !element.open) element.showModal();
  else if (!isShown && element?.open) element.close();
}
