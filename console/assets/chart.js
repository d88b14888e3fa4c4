// Charts, drawn as SVG, with a table for who does not see them.

import { el, count } from "./dom.js";

const kinds = [["allowed", "allowed"], ["held", "held"], ["refused", "refused"]];

// round is the next number whose half is short to write.
function round(n) {
  const unit = 10 ** Math.max(0, Math.floor(Math.log10(n)) - 1) * 2;
  return Math.ceil(n / unit) * unit;
}

// spans draws how many operations were decided how over time, as stacked bars.
export function spans(all, hours) {
  // On a phone it is drawn for one: the letters of a wide chart would shrink with it.
  const narrow = matchMedia("(max-width: 600px)").matches;
  const width = narrow ? 360 : 960, labels = narrow ? 4 : 8, height = 180, top = 14, bottom = 22, left = 40;
  const total = (s) => s.allowed + s.held + s.refused;
  const most = round(Math.max(4, ...all.map(total)));
  const step = (width - left) / all.length;
  const y = (n) => (height - top - bottom) * (n / most);
  const label = hours <= 48 ? { hour: "2-digit", minute: "2-digit", hour12: false } : { day: "numeric", month: "short" };
  const format = new Intl.DateTimeFormat(undefined, label);
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const parts = [];
  for (const f of [0, 0.5, 1]) {
    const at = top + (height - top - bottom) * (1 - f);
    parts.push(el("line.grid", { x1: left, x2: width, y1: at, y2: at }), el("text.label", { x: left - 6, y: at + 4, "text-anchor": "end" }, count(Math.round(most * f))));
  }
  all.forEach((s, i) => {
    let at = height - bottom;
    const bars = kinds.map(([k]) => {
      const h = y(s[k]);
      at -= h;
      return h > 0 && el("rect", { class: "bar " + k, x: left + i * step + 1, y: at, width: Math.max(1, step - 2), height: Math.max(h, 1.5) });
    });
    parts.push(el("g", null, el("rect.hit", { x: left + i * step, y: top, width: step, height: height - top - bottom }), bars,
      el("title", {}, full.format(new Date(s.at)) + ": " + kinds.map(([k, w]) => count(s[k]) + " " + w).join(", "))));
    if (i % Math.ceil(all.length / labels) === 0) parts.push(el("text.label", { x: left + i * step, y: height - 6 }, format.format(new Date(s.at))));
  });
  const sums = kinds.map(([k, w]) => [w, all.reduce((n, s) => n + s[k], 0)]);
  return el("figure.chart", null,
    el("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Operations over time: " + sums.map(([w, n]) => count(n) + " " + w).join(", ") }, parts),
    el("figcaption", null, sums.map(([w, n], i) => el("span.key", null, el("span", { class: "swatch " + kinds[i][0] }), w + " " + count(n)))));
}

// bars draws totals as bars beside their names.
export function bars(all, name) {
  const total = (t) => t.allowed + t.held + t.refused;
  const most = Math.max(1, ...all.map(total));
  return el("table.bars", null, el("tbody", null, all.map((t) => el("tr", null, el("th", { scope: "row" }, name(t)),
    el("td", null, el("svg", { viewBox: "0 0 200 12", preserveAspectRatio: "none", "aria-hidden": "true" }, kinds.reduce((got, [k]) => {
      const w = (200 * t[k]) / most;
      if (w > 0) got.push(el("rect", { class: "bar " + k, x: got.x || 0, y: 0, width: Math.max(1, w), height: 12 }));
      got.x = (got.x || 0) + w;
      return got;
    }, []))), el("td.number", null, count(total(t)), t.refused ? el("span.bad-text", null, " " + count(t.refused) + " refused") : null)))));
}
