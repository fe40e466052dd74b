// What the keys do.

import { html } from "./widgets.js";

let isShown = false;

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
    <dl class="keys">${pages.map(([, title], at) => key(at + 1, title))}</dl>
    <dl class="keys">${key("/", "find, on Waves and Services")}${key("Esc", "show all channels again; leave a field")}
      ${key("p", "Waves: pause and go on")}${key("e", "Waves: emit a wave")}${key("r", "Dead letters, Durable: read again")}
      ${key("↑ ↓", "Spectrum: choose a channel")}${key("Enter", "Spectrum: narrow every page to it; Map: its waves")}${key("?", "this list")}</dl>
    <div class="actions"><button autofocus @click=${close}>Close</button></div></dialog>`;
}

export function after() {
  const element = document.getElementById("help");
  if (isShown && element && !element.open) element.showModal();
  else if (!isShown && element?.open) element.close();
}
