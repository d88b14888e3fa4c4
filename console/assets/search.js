// Search over every operation on record.

import { el, fill, state, who, when, count, many, foreign, link, button, empty, walk } from "./dom.js";
import { get } from "./api.js";
import { line } from "./sql.js";

export async function open(context) {
  const page = new Search(context);
  await page.load();
  return page;
}

const examples = ["outcome:refused since:24h", "verb:delete", "who:ana table:customers", '"order by" -effect:allow', "outcome:held"];

class Search {
  constructor(context) {
    Object.assign(this, context);
    this.input = el("input", { type: "search", id: "q", value: context.query.get("q") || "", autocomplete: "off", autofocus: true, spellcheck: "false", "aria-describedby": "how" });
    this.list = walk(el("ol.results"));
    this.more = el("div.more");
    this.note = el("p", { role: "status" });
    this.element = el("div", null, el("h1", null, "Search"),
      el("form.searching", { role: "search", submit: (e) => { e.preventDefault(); this.ask(); } }, el("label", { for: "q" }, "Words of statements, “phrases”, or field:value"),
        el("div.joined", null, this.input, el("button.primary", { type: "submit" }, "Search")),
        el("p.quiet", { id: "how" }, "Fields: who, connection, table, verb, session, effect, outcome, rule, skill, conversation, tool, trace, since, until. A minus sign before means its opposite. ",
          examples.map((x) => [el("button.example", { type: "button", click: () => { this.input.value = x; this.ask(); } }, x), " "]))),
      this.note, this.list, this.more);
  }

  moved(context) {
    this.input.value = context.query.get("q") || "";
    this.attempt(() => this.load());
  }

  ask() {
    const q = this.input.value.trim();
    this.go("/search" + (q ? "?q=" + encodeURIComponent(q) : ""));
  }

  async load() {
    const q = this.input.value.trim();
    if (!q) { fill(this.list); fill(this.more); fill(this.note); return; }
    try {
      const page = await get("/search", { q, limit: 50 });
      fill(this.list, page.items.map((o) => this.row(o)));
      fill(this.note, page.items.length ? null : empty("Nothing on record is like that"));
      this.after(q, page);
    } catch (e) {
      fill(this.list);
      fill(this.more);
      fill(this.note, el("span.problem", null, e.message));
    }
  }

  after(q, page) {
    fill(this.more, page.next ? button("Older ones", {}, () => this.attempt(async () => {
      const next = await get("/search", { q, limit: 50, cursor: page.next });
      this.list.append(...next.items.map((o) => this.row(o)));
      this.after(q, next);
    })) : null);
  }

  row(o) {
    return el("li", null, link("/sessions/" + o.session + "#entry-" + o.entry, { "data-row": o.entry },
      el("span.top", null, who(o), el("span.quiet", null, " on "), foreign(o.connection), state(o.outcome), o.rule && o.outcome !== "ok" ? el("code", null, foreign(o.rule)) : null),
      line(o.text), el("span.quiet", null, when(o.at), o.rows ? ", " + many(o.rows, "row") : "", ", entry " + count(o.entry))));
  }
}
