// Elements, made of parts. Text is text: nothing here, or anywhere in the
// console, makes markup of a string (and the page's policy would not let it).

const svgNames = new Set(["svg", "path", "rect", "circle", "line", "g", "text", "title", "polyline"]);

// el makes an element. Attributes with a function are listeners; null, false
// and undefined are left out, of children too.
export function el(name, attributes, ...children) {
  const [tag, ...classes] = name.split(".");
  const svg = svgNames.has(tag) && !(tag === "title" && attributes === undefined);
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  if (classes.length) e.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") e.addEventListener(key, value);
    else if (key === "value") e.value = value;
    else if (key === "class") e.setAttribute("class", (e.getAttribute("class") || "") + " " + value);
    else e.setAttribute(key, value === true ? "" : value);
  }
  put(e, children);
  return e;
}

// put appends children, which may be lists of them.
export function put(parent, ...children) {
  for (const c of children.flat(Infinity)) {
    if (c === null || c === undefined || c === false || c === "") continue;
    parent.append(c instanceof Node ? c : document.createTextNode(String(c)));
  }
  return parent;
}

// fill replaces what an element holds.
export function fill(parent, ...children) {
  parent.replaceChildren();
  return put(parent, ...children);
}

const shapes = {
  overview: "M4 19V11M10 19V5M16 19v-6M21 19H2",
  inbox: "M3 13l3-8h12l3 8v6H3zM3 13h5l1.5 3h5L16 13h5",
  sessions: "M4 5h16v11H4zM8 20h8M8 9l2.5 2L8 13M13 13h3",
  search: "M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13zM15.5 15.5 21 21",
  connections: "M5 7h14M5 12h14M5 17h14M3 5v14M21 5v14",
  policies: "M12 3l8 3v6c0 5-3.5 8-8 9-4.5-1-8-4-8-9V6zM8.5 12l2.5 2.5L16 9.5",
  ledger: "M5 4h14v16H5zM9 8h6M9 12h6M9 16h3",
  play: "M8 5l11 7-11 7z",
  pause: "M8 5v14M16 5v14",
  stop: "M6 6h12v12H6z",
  check: "M5 12.5l4.5 4.5L19 7.5",
  cross: "M6 6l12 12M18 6L6 18",
  person: "M12 4a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM4.5 20c1-4 4-6 7.5-6s6.500 2 7.500 6",
  skill: "M12 3v3M6 6h12v9H6zM9 10h.01M15 10h.01M9 15v3M15 15v3M4 19h16",
  ci: "M4 12a8 8 0 0 1 14-5.300M20 12a8 8 0 0 1-14 5.300M18 3v4h-4M6 21v-4h4",
  workload: "M12 3l8 4.500v9L12 21l-8-4.500v-9zM4 7.500l8 4.500 8-4.500M12 12v9",
  out: "M10 5H5v14h5M14 8l4 4-4 4M18 12H9",
  more: "M6 9l6 6 6-6",
  eye: "M2.500 12S6 5.500 12 5.500 21.500 12 21.500 12 18 18.500 12 18.500 2.500 12 2.500 12zM12 9.500a2.500 2.500 0 1 1 0 5 2.500 2.500 0 0 1 0-5z",
  back: "M15 5l-7 7 7 7",
  warning: "M12 4l9 16H3zM12 10v4M12 17h.01",
};

// icon is a small drawing; the words beside it say what it means.
export function icon(name) {
  return el("svg.icon", { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, el("path", { d: shapes[name] || shapes.workload }));
}

// Characters that do not show, or that make text show in another order than it
// is run in (Unicode TR 36 and CVE-2021-42574): a reviewer must see them.
const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb]|[\u{e0000}-\u{e0fff}]/gu;

// shown is foreign text as nodes, with what would not show made to.
export function shown(text) {
  const out = [];
  let at = 0;
  for (const m of text.matchAll(hidden)) {
    if (m.index > at) out.push(text.slice(at, m.index));
    out.push(el("span.hidden-char", { title: "a character that does not show, or changes the order of others" }, "U+" + m[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0")));
    at = m.index + m[0].length;
  }
  if (at < text.length) out.push(text.slice(at));
  return out;
}

// foreign is a piece of foreign text in line, kept from changing the order of
// what stands around it.
export const foreign = (text) => el("bdi", null, shown(String(text ?? "")));

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const number = new Intl.NumberFormat();

export const count = (n) => number.format(n);

// many is a number with its noun.
export const many = (n, one, more) => count(n) + " " + (n === 1 ? one : more || one + "s");

// when is a time, short, with all of it on demand.
export function when(iso) {
  const t = new Date(iso);
  const today = t.toDateString() === new Date().toDateString();
  return el("time", { datetime: t.toISOString(), title: whole.format(t) }, (today ? "" : day.format(t) + " ") + clock.format(t));
}

// lasted is a time span in milliseconds, in words.
export function lasted(ms) {
  if (ms < 1) return "<1 ms";
  if (ms < 1000) return Math.round(ms) + " ms";
  const s = Math.floor(ms / 1000);
  if (s < 60) return s < 10 ? (ms / 1000).toFixed(1) + " s" : s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

export function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1024 || unit === "GiB") return (unit === "B" ? n : n.toFixed(1)) + " " + unit;
    n /= 1024;
  }
}

// chip is a state in a word, and in a colour that is not needed to tell it.
export const chip = (word, tone) => el("span.chip", { class: tone || "" }, word);

const tones = {
  allow: "good", ok: "good", approved: "good", used: "good", allowed: "good",
  refuse: "bad", refused: "bad", denied: "bad", error: "bad", "turned-away": "bad", revoked: "bad", interrupted: "bad",
  approve: "held", held: "held", pending: "held", "not-sent": "quiet", unsettled: "warn",
  open: "live", closed: "quiet", expired: "quiet", withdrawn: "quiet", skipped: "quiet",
};

// state is a state's chip; words says it for people.
const words = { pending: "waiting", open: "live", allow: "allowed", refuse: "refused", approve: "held", "turned-away": "turned away", "not-sent": "not sent" };
export const state = (s) => chip(words[s] || s, tones[s]);

// who is a caller with the person behind them.
export function who(o) {
  return el("span.who", { class: o.kind || "" }, icon(o.kind || "person"),
    el("span", null, foreign(o.caller), o.on_behalf_of ? [el("span.quiet", null, " for "), foreign(o.on_behalf_of)] : null));
}

// link goes to another page of the console.
export const link = (to, attributes, ...children) => el("a", { href: to, ...attributes }, ...children);

// button is one that does something; while it is at it, it can't be pressed.
export function button(label, attributes, act) {
  const b = el("button", { type: "button", ...attributes }, label);
  b.addEventListener("click", async () => {
    b.disabled = true;
    try { await act(b); } finally { b.disabled = false; }
  });
  return b;
}

// list of terms and what they mean.
export function facts(pairs) {
  return el("dl.facts", null, pairs.filter(([, v]) => v !== null && v !== undefined && v !== "" && !(Array.isArray(v) && v.length === 0))
    .map(([k, v]) => el("div", null, el("dt", null, k), el("dd", null, v))));
}

export const empty = (title, text, ...more) => el("div.empty", null, el("p.lead", null, title), text ? el("p", null, text) : null, ...more);

// rows makes a list's rows reachable with j and k, and opened with Enter.
export function walk(container) {
  container.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) return;
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[e.key];
    if (!step) return;
    const all = [...container.querySelectorAll("[data-row]")];
    const at = all.indexOf(document.activeElement.closest("[data-row]"));
    const next = all[Math.max(0, Math.min(all.length - 1, at + step))];
    if (next) { next.focus(); e.preventDefault(); }
  });
  return container;
}
