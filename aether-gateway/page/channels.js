// Patterns of channels: `*` is one token, `>` at the end is one or more. The rules are those of the bus.

/** Whether a channel matches a pattern. Without a pattern every channel does. */
export function matches(pattern, channel) {
  if (!pattern || pattern === ">" || pattern === "*" || pattern === channel) return true;
  const [wanted, tokens] = [pattern.split("."), channel.split(".")];
  for (const [at, token] of wanted.entries()) {
    if (token === ">" && at === wanted.length - 1) return tokens.length > at;
    if (at >= tokens.length || (token !== "*" && token !== tokens[at])) return false;
  }
  return wanted.length === tokens.length;
}

/** Whether an incident is about a channel that the filter shows. */
export function concerns(filter, incident) {
  return !filter || [...incident.streams, ...incident.followers, ...incident.unheard].some((name) => matches(filter, name));
}

/** Whether a channel can match both patterns. */
export function overlap(one, other) {
  const everything = (pattern) => !pattern || pattern === ">" || pattern === "*";
  if (everything(one) || everything(other)) return true;
  const [a, b] = [one.split("."), other.split(".")];
  for (let at = 0; at < Math.max(a.length, b.length); at += 1) {
    if (a[at] === undefined || b[at] === undefined) return false;
    if (a[at] === ">" || b[at] === ">") return true;
    if (a[at] !== "*" && b[at] !== "*" && a[at] !== b[at]) return false;
  }
  return true;
}
