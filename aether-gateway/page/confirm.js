// A question before something is changed for good, and the change: one dialog for all pages.

import { html, nothing } from "./widgets.js";

let asked = null;

/** Asks `title` with `text`; the button `verb` runs. `isDanger` marks what cannot be undone. */
export function confirm(app, { title, text, verb, isDanger = false, run }) {
  asked = { title, text, verb, isDanger, run };
  app.draw();
}

/** Has the gateway change something, and tells what was done. Returns why it was not, or "". */
export async function change(app, path, method, done, undone) {
  try {
    app.tell(done(await app.link.fetch(path, { method })));
    return "";
  } catch (failed) {
    app.tell("");
    return `${undone}: ${failed.message}`;
  }
}

export function forget() {
  asked = null;
}

export function dialog(app) {
  const close = () => {
    asked = null;
    app.draw();
  };
  const run = () => {
    const { run: go } = asked;
    close();
    go();
  };
  return html`<dialog id="confirm" aria-labelledby="confirm-title" @close=${close}>${asked
    ? html`<h2 id="confirm-title">${asked.title}</h2><p>${asked.text}</p>
      <div class="actions"><button class=${asked.isDanger ? "danger" : "primary"} @click=${run}>${asked.verb}</button><button autofocus @click=${close}>Cancel</button></div>`
    : nothing}</dialog>`;
}

/** The dialog is opened after it was drawn. */
export function after() {
  const element = document.getElementById("confirm");
  if (asked && element && !element.open) element.showModal();
  else if (!asked && element?.open) element.close();
}
