// SQL as people read it: coloured, and broken into lines. Only the space
// between words is ever changed, and "as sent" shows every byte in its place.

import { el, shown } from "./dom.js";

const keywords = new Set(("select from where and or not insert into values update set delete returning join left right inner outer full cross on using group by having order " +
  "limit offset union all distinct as with recursive create table view index drop alter add column truncate grant revoke to in is null like ilike between exists case when then " +
  "else end begin commit rollback savepoint release copy merge matched do nothing conflict explain analyze vacuum call declare cursor fetch for lock lateral filter over partition " +
  "window except intersect cascade restrict default primary key references unique check constraint if replace function procedure trigger language returns execute prepare deallocate " +
  "listen notify show reset role database schema extension materialized refresh only true false").split(" "));

// Words before which a new line begins, where they stand at the outermost level.
const breaks = new Set(["from", "where", "group", "having", "order", "limit", "offset", "returning", "values", "set", "union", "except", "intersect", "left", "right", "inner", "full", "cross", "join", "with", "window"]);
const follows = { join: ["left", "right", "inner", "full", "cross", "outer"], from: ["delete", "distinct"] };

// A token of PostgreSQL's grammar, as far as telling words from what only looks
// like them takes: strings, quoted names, dollar quotes and comments are whole.
const token = /(\s+)|(--[^\n]*|\/\*[\s\S]*?(?:\*\/|$))|((?:[eEbBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|$))|(\$([A-Za-z_][A-Za-z0-9_]*)?\$[\s\S]*?(?:\$\5\$|$))|("(?:[^"]|"")*(?:"|$))|(\$\d+)|(\d+(?:\.\d+)?)|([A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)|([\s\S])/gu;

export function tokens(text) {
  const out = [];
  for (const m of text.matchAll(token)) {
    const kind = m[1] !== undefined ? "space" : m[2] !== undefined ? "comment" : m[3] !== undefined || m[4] !== undefined ? "string" : m[6] !== undefined ? "name"
      : m[7] !== undefined ? "param" : m[8] !== undefined ? "number" : m[9] !== undefined ? (keywords.has(m[9].toLowerCase()) ? "keyword" : "word") : "sign";
    out.push({ kind, text: m[0] });
  }
  return out;
}

// folded is the tokens with the space that stood between them set anew: none is
// put where there was none, and none taken away.
function folded(all) {
  const out = [];
  let depth = 0, before = "", spaced = false, first = true;
  for (const t of all) {
    if (t.kind === "space") { spaced = true; continue; }
    const word = t.text.toLowerCase();
    if (t.text === ")") depth--;
    let gap = spaced && !first ? " " : "";
    if (gap && depth === 0 && t.kind === "keyword") {
      if (breaks.has(word) && !(follows[word] || []).includes(before)) gap = "\n";
      else if (word === "and" || word === "or") gap = "\n  ";
    }
    if (gap && (before === ";" && depth === 0 || before.startsWith("--"))) gap = "\n";
    out.push({ kind: "space", text: gap }, t);
    if (t.text === "(") depth++;
    before = word;
    first = spaced = false;
  }
  return out;
}

// highlighted is a statement's text as nodes.
export function highlighted(text, fold) {
  let all = tokens(text);
  if (fold && text.length < 20000) all = folded(all);
  return all.map((t) => (t.kind === "space" || t.kind === "word" || t.kind === "sign" ? shown(t.text) : el("span", { class: "sql-" + t.kind }, shown(t.text))));
}

// diff is a text with the lines that differ in colour.
function diff(text) {
  const kinds = { "+": "added", "-": "removed", "@": "place" };
  return text.split("\n").map((l, i) => [i ? "\n" : "", kinds[l[0]] ? el("span", { class: "diff-" + kinds[l[0]] }, shown(l)) : shown(l)]);
}

// statement is a block with a statement, and a switch between folded and as
// sent.
export function statement(text, { protocol = "postgres" } = {}) {
  if (!text) return el("p.quiet", null, "The text is not on record any more: its recording was erased.");
  if (protocol !== "postgres") return el("pre.code", { tabindex: "0", "aria-label": "Statement" }, protocol === "git" ? diff(text) : shown(text));
  const code = el("pre.code", { tabindex: "0", "aria-label": "Statement" });
  let fold = true;
  const show = () => { code.replaceChildren(...highlighted(text, fold).flat()); };
  const flip = el("button.small", { type: "button", "aria-pressed": "false", click: () => {
    fold = !fold;
    flip.setAttribute("aria-pressed", String(!fold));
    show();
  } }, "As sent");
  show();
  return el("div.statement", null, el("div.tools", null, flip), code);
}

// line is a statement in one line.
export const line = (text) => el("code.line", null, text ? shown(text.replace(/\s+/g, " ").slice(0, 400)) : el("span.quiet", null, "(erased)"));
