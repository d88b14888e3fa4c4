// The overview: what waits, what is live, and who did what.

import { el, fill, state, who, when, count, foreign, link } from "./dom.js";
import { get } from "./api.js";
import { line } from "./sql.js";
import { spans, bars } from "./chart.js";

export async function open(context) {
  const page = new Overview(context);
  await page.load();
  return page;
}

const times = { 6: "6 hours", 24: "24 hours", 168: "7 days", 720: "30 days" };

class Overview {
  constructor(context) {
    Object.assign(this, context);
    this.hours = 24;
    this.body = el("div");
    this.choice = el("select", { "aria-label": "Time", change: () => { this.hours = Number(this.choice.value); this.attempt(() => this.load()); } },
      Object.entries(times).sort(([a], [b]) => a - b).map(([v, t]) => el("option", { value: v, selected: v === "24" }, "last " + t)));
    this.element = el("div", null, el("header.head", null, el("h1", null, "Overview"), this.choice), this.body);
  }

  async load() {
    const asked = (this.asked = {});
    const [activity, waiting, live, refused] = await Promise.all([get("/activity", { hours: this.hours }), get("/approvals", { state: "pending" }),
      get("/sessions", { state: "open", limit: 1000 }), get("/search", { q: "outcome:refused", limit: 6 })]);
    if (asked !== this.asked) return;
    const sum = (k) => activity.spans.reduce((n, s) => n + s[k], 0);
    const mine = waiting.items.filter((a) => a.answerable).length;
    const tile = (to, n, text, tone) => link(to, { class: "tile " + (tone || "") }, el("strong", null, n), el("span", null, text));
    const all = this.me.roles.some((r) => r === "admin" || r === "auditor");
    fill(this.body,
      el("div.tiles", null,
        tile("/approvals", count(mine), mine === 1 ? "approval waits for you" : "approvals wait for you", mine ? "held" : ""),
        tile("/sessions?state=open", count(live.items.length) + (live.next ? "+" : ""), live.items.length === 1 ? "session is live" : "sessions are live", live.items.length ? "live" : ""),
        tile("/search?q=" + encodeURIComponent("since:" + this.hours + "h"), count(sum("allowed") + sum("held") + sum("refused")), "operations"),
        tile("/search?q=" + encodeURIComponent("outcome:refused since:" + this.hours + "h"), count(sum("refused")), "refused", sum("refused") ? "bad" : "")),
      el("section", null, el("h2", null, all ? "What was done" : "What you did"), spans(activity.spans, this.hours)),
      el("div.columns", null,
        el("section", null, el("h2", null, "Callers"), activity.callers.length ? bars(activity.callers, (t) => link("/sessions?caller=" + encodeURIComponent(t.name), {}, foreign(t.name))) : el("p.quiet", null, "Nobody did anything.")),
        el("section", null, el("h2", null, "Connections"), activity.connections.length ? bars(activity.connections, (t) => link("/sessions?connection=" + encodeURIComponent(t.name), {}, foreign(t.name))) : el("p.quiet", null, "Nothing was done on any."))),
      el("section", null, el("h2", null, "Refused last"), refused.items.length ? el("ol.results", null, refused.items.map((o) => el("li", null, link("/sessions/" + o.session + "#entry-" + o.entry, {},
        el("span.top", null, who(o), el("span.quiet", null, " on "), foreign(o.connection), state(o.outcome), o.rule ? el("code", null, foreign(o.rule)) : null), line(o.text), el("span.quiet", null, when(o.at)))))) : el("p.quiet", null, "Nothing was refused yet.")));
  }

  told() {
    if (this.waiting) return;
    this.waiting = setTimeout(() => { this.waiting = undefined; this.load().catch(() => {}); }, 2000);
  }

  close() { clearTimeout(this.waiting); }
}
