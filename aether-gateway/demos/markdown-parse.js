// Markdown as a tree of plain objects. A page makes elements of it and sets texts only, so HTML in it stays text.

/** Names of characters that can hide the scheme of a link. Others stay as they are, and then it is no scheme. */
const NAMED = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", colon: ":", tab: "\t", newline: "\n", sol: "/", bsol: "\\", nbsp: " ", num: "#", lpar: "(", rpar: ")", period: ".", shy: "\u00ad", zerowidthspace: "\u200b" };
/** A longer line is shown as it is: it is no text that somebody wrote. */
const LONGEST = 4_000;
const SCHEMES = new Set(["http:", "https:", "mailto:"]);

/**
 * The address that a link may have, or undefined: `http`, `https`, `mailto`, or one without a scheme. Entities, white space and
 * control characters hide nothing.
 */
export function safeAddress(given) {
  let text = given;
  for (let round = 0; round < 8; round += 1) {
    const decoded = decode(text);
    if (decoded === text) break;
    text = decoded;
    if (round === 7) return undefined;
  }
  try {
    text = decodeScheme(text);
  } catch {
    return undefined;
  }
  const bare = text.replace(/[\u0000-\u0020\u007f-\u00a0\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\u3000\ufeff]/g, "");
  if (!bare) return undefined;
  const scheme = /^([^/?#]*?):/.exec(bare)?.[1];
  if (scheme === undefined) return /^[/\\]{2}/.test(bare) ? undefined : bare;
  return SCHEMES.has(`${scheme.toLowerCase()}:`) ? bare : undefined;
}

/** Lines as blocks: `{type: "heading", level, parts}`, `paragraph`, `quote`, `list` with `items`, `code` with `text`, `rule`. */
export function blocks(lines) {
  const all = [];
  let code;
  let isOpen = false;
  for (const line of lines) {
    const last = all.at(-1);
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    const item = /^\s*(?:([-*+])|\d{1,9}[.)])\s+(.*)$/.exec(line);
    const quote = /^>\s?(.*)$/.exec(line);
    if (/^\s*```/.test(line)) {
      if (code) code = undefined;
      else all.push((code = { type: "code", text: "" }));
      isOpen = false;
      continue;
    }
    if (code) {
      code.text += `${line}\n`;
      continue;
    }
    const list = item && { type: "list", isOrdered: item[1] === undefined, items: [inline(item[2])] };
    if (!line.trim()) isOpen = false;
    else if (heading) all.push({ type: "heading", level: heading[1].length, parts: inline(heading[2]) });
    else if (/^\s*(?:-{3,}|\*{3,}|_{3,})\s*$/.test(line)) all.push({ type: "rule" });
    else if (list && isOpen && last?.type === "list" && last.isOrdered === list.isOrdered) last.items.push(...list.items);
    else if (list) all.push(list);
    else if (quote && isOpen && last?.type === "quote") last.parts.push({ type: "break" }, ...inline(quote[1]));
    else if (quote) all.push({ type: "quote", parts: inline(quote[1]) });
    else if (isOpen && last?.type === "paragraph") last.parts.push({ type: "break" }, ...inline(line));
    else all.push({ type: "paragraph", parts: inline(line) });
    isOpen = Boolean(line.trim()) && !heading;
  }
  return all;
}

/** The parts of a line: `{type: "text", text}`, `code`, `strong` and `em` with `parts`, `link` with `parts` and perhaps `href`. */
export function inline(text, depth = 0) {
  if (depth > 8 || text.length > LONGEST) return [{ type: "text", text }];
  const parts = [];
  let rest = text;
  let plain = "";
  const put = (part) => {
    if (plain) parts.push({ type: "text", text: plain });
    plain = "";
    if (part) parts.push(part);
  };
  while (rest) {
    const code = /^(`+)([^`](?:.*?[^`])?)\1(?!`)/.exec(rest);
    const strong = /^\*\*(?=\S)(.+?)\*\*/.exec(rest) ?? /^__(?=\S)(.+?)__/.exec(rest);
    const em = /^\*(?=\S)([^*]+)\*/.exec(rest) ?? (/\w$/.test(plain) ? null : /^_(?=\S)([^_]+)_(?!\w)/.exec(rest));
    const link = /^\[([^\]]{0,1000})\]\(((?:[^()]|\([^()]{0,2000}\)){0,4000})\)/.exec(rest);
    const found = code ?? strong ?? em ?? link;
    if (rest[0] === "\\" && /[!-/:-@[-`{-~]/.test(rest[1] ?? "")) {
      plain += rest[1];
      rest = rest.slice(2);
      continue;
    }
    if (code) put({ type: "code", text: code[2].trim() || code[2] });
    else if (strong) put({ type: "strong", parts: inline(strong[1], depth + 1) });
    else if (em) put({ type: "em", parts: inline(em[1], depth + 1) });
    else if (link) put({ type: "link", href: safeAddress(link[2]), parts: inline(link[1], depth + 1) });
    else plain += rest[0];
    rest = rest.slice(found ? found[0].length : 1);
  }
  put();
  return parts;
}

function decode(text) {
  return text.replace(/&(?:#(\d{1,12});?|#x([0-9a-f]{1,12});?|([a-z]{1,20});)/gi, (whole, decimal, hex, name) => {
    if (name !== undefined) return NAMED[name.toLowerCase()] ?? whole;
    const point = decimal !== undefined ? Number.parseInt(decimal, 10) : Number.parseInt(hex, 16);
    return point > 0 && point <= 0x10ffff ? String.fromCodePoint(point) : "\ufffd";
  });
}

/** A scheme may not be hidden by `%` either; what follows it may have any. */
function decodeScheme(text) {
  const head = /^[^/?#]*/.exec(text)[0];
  return /%/.test(head) ? decodeURIComponent(head) + text.slice(head.length) : text;
}
