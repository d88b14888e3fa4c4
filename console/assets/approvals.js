// The inbox: what waits for people, and what became of it.

import { el, fill, icon, chip, state, who, when, lasted, count, many, facts, foreign, link, button, empty, walk } from "./dom.js";
import { get, post, Problem } from "./api.js";
import { statement, line } from "./sql.js";

const tabs = [
  { name: "For you", key: "mine", is: (a) => a.answerable },
  { name: "Waiting", key: "waiting", is: (a) => a.state === "pending" },
  { name: "All of today", key: "all", is: () => true },
];

export async function open(context) {
  const page = new Inbox(context);
  await page.load();
  return page;
}

class Inbox {
  constructor(context) {
    Object.assign(this, context);
    this.items = [];
    this.tab = this.me.roles.includes("reviewer") || this.me.roles.includes("admin") ? tabs[0] : tabs[1];
    this.list = walk(el("ul.rows", { "aria-label": "Approvals" }));
    this.detail = el("section.detail", { "aria-label": "Approval", tabindex: "-1" });
    this.switch = el("div.tabs", { role: "group", "aria-label": "Which" }, tabs.map((t) => el("button", { type: "button", "data-tab": t.key, click: () => { this.tab = t; this.paint(); } }, t.name)));
    this.element = el("div.split", null, el("div.list", null, el("h1", null, "Approvals"), this.switch, this.list), this.detail);
    this.ticking = setInterval(() => this.tick(), 1000);
  }

  close() { clearInterval(this.ticking); }

  moved(context) {
    this.id = context.id;
    this.paint();
    this.showOne(true);
  }

  async load() {
    this.items = (await get("/approvals")).items;
    this.paint();
    await this.showOne(false);
  }

  told(kind) {
    if (kind !== "approvals") return;
    this.load().catch((e) => this.say(e.message, "bad"));
  }

  paint() {
    for (const b of this.switch.children) {
      const t = tabs.find((x) => x.key === b.dataset.tab);
      b.setAttribute("aria-pressed", String(t === this.tab));
      const n = t.key === "all" ? 0 : this.items.filter(t.is).length;
      fill(b, t.name, n ? el("span.count", null, n) : null);
    }
    const held = document.activeElement?.dataset?.row;
    const items = this.items.filter(this.tab.is);
    this.element.classList.toggle("one", Boolean(this.id));
    fill(this.list, items.length ? items.map((a) => this.row(a)) : el("li", null, empty(this.tab.key === "all" ? "Nobody asked for anything today" : "Nothing waits", "What is held appears here by itself.")));
    if (held) this.list.querySelector(`[data-row="${CSS.escape(held)}"]`)?.focus();
  }

  row(a) {
    return el("li", null, link("/approvals/" + a.id, { "data-row": a.id, "aria-current": a.id === this.id ? "true" : null },
      el("span.top", null, who(a), a.state === "pending" ? el("span.left", { "data-until": a.expires_at }, left(a.expires_at)) : state(a.state)),
      a.for ? el("span.access", null, "Access for " + a.for + (a.effects ? ": " + a.effects.join(", ") : "")) : line(a.text),
      el("span.quiet", null, foreign(a.connection), " · ", foreign(a.rule), " · ", when(a.requested_at))));
  }

  tick() {
    for (const e of this.element.querySelectorAll("[data-until]")) {
      const text = left(e.dataset.until);
      if (e.textContent !== text) e.textContent = text;
    }
  }

  async showOne(moved) {
    if (!this.id) {
      fill(this.detail, empty("Choose one", "With j and k, or the arrows, one goes through the list; Enter opens."));
      return;
    }
    const id = this.id;
    let a, around;
    try {
      a = await get("/approvals/" + encodeURIComponent(id));
      around = await get("/approvals/" + encodeURIComponent(id) + "/background").catch((e) => { if (e instanceof Problem) return null; throw e; });
    } catch (e) {
      fill(this.detail, el("p.problem", { role: "alert" }, e.message));
      return;
    }
    if (id !== this.id) return;
    // What is being written about it stays, whatever comes in.
    const typed = this.shown === id ? this.detail.querySelector("textarea")?.value : "";
    const writing = this.detail.contains(document.activeElement) && document.activeElement.tagName === "TEXTAREA";
    this.shown = id;
    fill(this.detail, this.view(a, around));
    const reason = this.detail.querySelector("textarea");
    if (reason && typed) reason.value = typed;
    if (reason && writing) reason.focus();
    if (moved) this.detail.focus({ preventScroll: false });
  }

  view(a, around) {
    return [
      el("p.back", null, link("/approvals", {}, icon("back"), "All approvals")),
      el("header.head", null, el("h2", null, who(a), el("span.quiet", null, a.for ? " asks for access to " : " on "), foreign(a.connection)),
        el("p", null, state(a.state), a.break_glass ? chip("glass broken", "bad") : null,
          a.state === "pending" ? el("span.left", { "data-until": a.expires_at }, left(a.expires_at)) : null)),
      a.for ? null : statement(a.text, { protocol: a.protocol }),
      a.params?.length ? el("div.scroll", { tabindex: "0", role: "region", "aria-label": "Parameters" }, el("table.data", null, el("caption", null, "Parameters"),
        el("tbody", null, a.params.map((p, i) => el("tr", null, el("th", { scope: "row" }, "$" + (i + 1)), el("td", null, foreign(p))))))) : null,
      facts([
        ["Held by", a.rule === "access" || a.rule === "break-glass" ? null : el("span", null, el("strong", null, foreign(a.rule)), a.reason ? [": ", foreign(a.reason)] : null)],
        ["What for", a.purpose ? foreign(a.purpose) : null],
        ["Access", a.for ? "for " + a.for : null],
        ["Until", a.until ? when(a.until) : null],
        ["Allows", a.effects?.join(", ")],
        ["Does", a.verbs?.length ? a.verbs.map((v) => chip(v)) : null],
        ["Touches", a.objects?.length ? a.objects.map((o) => el("code", null, foreign(o))) : null],
        ["Would change", estimate(a.estimate)],
        ["Hidden from the caller", a.masks?.length ? a.masks.map((m) => el("code", null, foreign(m))) : null],
        ["Dry-run says otherwise", a.dry_run?.length ? a.dry_run.map((m) => el("code", null, foreign(m))) : null],
        ["Asks", (a.groups?.length ? "anyone in " + a.groups.join(", ") : "any reviewer") + (a.count > 1 ? ", " + a.count + " must agree" : "")],
        ["Asked", when(a.requested_at)],
        ["On record", a.session ? el("span", null, link("/sessions/" + a.session, {}, "the session"), ", entry " + count(a.entry)) : null],
      ]),
      a.answers?.length ? el("section", null, el("h3", null, "Answers"), el("ul.answers", null, a.answers.map((x) =>
        el("li", null, state(x.approve ? "approved" : "denied"), " ", foreign(x.by), x.reason ? [": ", el("q", null, foreign(x.reason))] : null, " ", el("span.quiet", null, when(x.at)))))) : null,
      this.answerForm(a),
      around?.session?.length ? el("section", null, el("h3", null, "Before it, in the session"), history(around.session)) : null,
      around?.similar?.length ? el("section", null, el("h3", null, "Like it, before"), history(around.similar)) : null,
    ];
  }

  answerForm(a) {
    if (a.state === "approved" && a.for && !a.own && (this.me.roles.length > 0)) return this.revokeForm(a);
    if (a.state !== "pending") return null;
    if (!a.answerable) {
      const why = a.own ? "You asked for this, or it is for you: somebody else answers it."
        : a.answers?.some((x) => x.by === this.me.name) ? "You have answered. " + many(a.count - a.answers.length, "more reviewer") + " must agree." : "You are not among those who are asked.";
      return el("p.note", null, why);
    }
    const reason = el("textarea", { id: "reason", rows: "2", maxlength: "1000" });
    const wrong = el("p.wrong", { role: "alert" });
    const answer = (approve) => () => this.attempt(async () => {
      if (!approve && !reason.value.trim()) { fill(wrong, "To deny takes a reason: whoever asked is told it."); reason.focus(); return; }
      await post("/approvals/" + a.id + (approve ? "/approve" : "/deny"), { reason: reason.value.trim() });
      this.say(approve ? "Approved." : "Denied.");
      reason.value = "";
      await this.load();
      this.countWaiting().catch(() => {});
    });
    return el("form.answer", { submit: (e) => e.preventDefault() },
      el("label", { for: "reason" }, "Reason ", el("span.quiet", null, "(needed to deny; on record either way)")), reason, wrong,
      el("div.actions", null, button([icon("check"), "Approve"], { class: "primary" }, answer(true)), button([icon("cross"), "Deny"], { class: "danger" }, answer(false))));
  }

  revokeForm(a) {
    const reason = el("textarea", { id: "reason", rows: "2", maxlength: "1000" });
    return el("form.answer", { submit: (e) => e.preventDefault() }, el("label", { for: "reason" }, "Reason to end it now"), reason,
      el("div.actions", null, button("End this access", { class: "danger" }, () => this.attempt(async () => {
        await post("/approvals/" + a.id + "/revoke", { reason: reason.value.trim() });
        this.say("The access is over.");
        await this.load();
      }))));
  }
}

function estimate(e) {
  if (!e) return null;
  if (e.unknown) return el("span.quiet", null, "not known: ", foreign(e.unknown));
  return el("span", null, el("strong.big", null, many(e.rows, "row")), el("span.quiet", null, e.exact ? ", counted" : ", as the target's planner guesses"));
}

function history(operations) {
  return el("ol.history", null, operations.map((o) => el("li", null, link("/sessions/" + o.session + "#entry-" + o.entry, {}, state(o.outcome), line(o.text), el("span.quiet", null, when(o.at))))));
}

// left is how long is left, in words.
function left(iso) {
  const ms = new Date(iso) - Date.now();
  return ms <= 0 ? "over" : lasted(ms < 10000 ? Math.ceil(ms / 1000) * 1000 : ms).replace(/\.\d s/, " s") + " left";
}
