// Sessions: who is at what now, and who was.

import { el, fill, icon, state, who, when, lasted, many, count, foreign, link, button, empty, walk } from "./dom.js";
import { get, post } from "./api.js";

export async function open(context) {
  const page = new Sessions(context);
  await page.load();
  return page;
}

const since = { "": "any time", 1: "the last hour", 24: "the last day", 168: "the last week", 720: "the last 30 days" };

class Sessions {
  constructor(context) {
    Object.assign(this, context);
    const q = context.query;
    const field = (label, name, control) => el("label.field", null, el("span", null, label), control);
    this.caller = el("input", { type: "search", name: "caller", value: q.get("caller") || "", autocomplete: "off", placeholder: "anyone" });
    this.connection = el("input", { type: "search", name: "connection", value: q.get("connection") || "", autocomplete: "off", placeholder: "any" });
    this.state = el("select", { name: "state" }, [["", "any"], ["open", "live"], ["closed", "closed"], ["turned-away", "turned away"]].map(([v, t]) => el("option", { value: v }, t)));
    this.state.value = q.get("state") || "";
    this.since = el("select", { name: "since" }, Object.entries(since).sort(([a], [b]) => a - b).map(([v, t]) => el("option", { value: v }, t)));
    this.since.value = q.get("hours") || "";
    this.body = walk(el("tbody"));
    this.live = el("section");
    this.more = el("div.more");
    this.filters = el("form.filters", { role: "search", submit: (e) => { e.preventDefault(); this.apply(); }, change: () => this.apply() },
      field("Caller", "caller", this.caller), field("Connection", "connection", this.connection), field("State", "state", this.state), field("Begun in", "since", this.since));
    this.table = el("div.scroll", { tabindex: "0", role: "region", "aria-label": "Sessions" }, el("table.list", null, el("thead", null, el("tr", null,
      ["Caller", "Connection", "Begun", "Lasted", "Operations", "State"].map((h) => el("th", { scope: "col", class: h === "Lasted" || h === "Operations" ? "roomy" : "" }, h)))), this.body));
    this.none = el("div");
    this.element = el("div", null, el("h1", null, "Sessions"), this.live, this.filters, this.table, this.none, this.more);
  }

  params() {
    const hours = Number(this.since.value);
    return { caller: this.caller.value.trim(), connection: this.connection.value.trim(), state: this.state.value, limit: 50,
      since: hours ? new Date(Date.now() - hours * 3600e3).toISOString() : "" };
  }

  apply() {
    const q = new URLSearchParams();
    for (const [k, v] of [["caller", this.caller.value.trim()], ["connection", this.connection.value.trim()], ["state", this.state.value], ["hours", this.since.value]]) if (v) q.set(k, v);
    history.replaceState(null, "", "/sessions" + (q.size ? "?" + q : ""));
    return this.attempt(() => this.load());
  }

  async load() {
    const asked = (this.asked = {});
    const [page, live] = await Promise.all([get("/sessions", this.params()), get("/sessions", { state: "open", limit: 50 })]);
    if (asked !== this.asked) return;
    this.paintLive(live.items);
    fill(this.body, page.items.map((s) => this.row(s)));
    this.paged = false;
    this.after(page);
  }

  after(page) {
    const any = this.body.children.length > 0;
    this.table.hidden = !any;
    fill(this.none, any ? null : empty("No session is like that", "Sessions of others are shown to auditors and administrators."));
    fill(this.more, page.next ? button("Older ones", {}, () => this.attempt(async () => {
      const next = await get("/sessions", { ...this.params(), cursor: page.next });
      this.paged = true;
      this.body.append(...next.items.map((s) => this.row(s)));
      this.after(next);
    })) : null);
  }

  // told: something is new. A list of which more was asked for stays as it is.
  told(kind) {
    if (kind !== "ledger") return;
    if (this.paged || this.element.contains(document.activeElement) && document.activeElement.closest("form")) {
      get("/sessions", { state: "open", limit: 50 }).then((live) => this.paintLive(live.items), () => {});
      return;
    }
    const held = document.activeElement?.closest?.("[data-row]")?.dataset.row;
    this.load().then(() => { if (held) this.body.querySelector(`[data-row="${CSS.escape(held)}"]`)?.focus(); }, () => {});
  }

  paintLive(items) {
    const key = items.map((s) => s.id + s.operations).join();
    if (key === this.liveKey) return;
    this.liveKey = key;
    fill(this.live, items.length ? [el("h2", null, "Live now ", el("span.count", null, items.length)), el("ul.cards", null, items.map((s) => el("li.card", { "data-live": s.id },
      el("div", null, who(s), el("span.quiet", null, " on "), foreign(s.connection)),
      el("div.quiet", null, "since ", when(s.started_at), ", ", many(s.operations, "operation")),
      el("div.actions", null, link("/sessions/" + s.id, { class: "button" }, icon("eye"), "Watch"), stopButton(this, s)))))] : null);
  }

  row(s) {
    return el("tr", { "data-row": s.id, tabindex: "0", keydown: (e) => { if (e.key === "Enter" && e.target.tagName !== "A") this.go("/sessions/" + s.id); } },
      el("td", null, link("/sessions/" + s.id, { tabindex: "-1" }, who(s))), el("td", null, foreign(s.connection)), el("td", null, when(s.started_at)),
      el("td.roomy", null, s.ended_at ? lasted(new Date(s.ended_at) - new Date(s.started_at)) : ""), el("td.number.roomy", null, count(s.operations)),
      el("td", null, state(s.state), s.erased ? el("span.quiet", null, " erased") : null, s.held ? el("span.quiet", null, " on hold") : null));
  }
}

// stopButton ends a live session, when pressed twice.
export function stopButton(context, s) {
  let sure;
  const b = el("button.danger", { type: "button" }, icon("stop"), "Stop");
  b.addEventListener("click", () => {
    if (!sure) {
      sure = setTimeout(() => { sure = undefined; fill(b, icon("stop"), "Stop"); }, 4000);
      fill(b, icon("stop"), "Stop it: sure?");
      return;
    }
    clearTimeout(sure);
    b.disabled = true;
    context.attempt(async () => {
      await post("/sessions/" + s.id + "/stop");
      context.say("The session is stopped.");
    }).finally(() => { b.disabled = false; sure = undefined; });
  });
  return b;
}
