// One session: what was done in it, what became of it, and its replay.

import { el, fill, icon, chip, state, who, when, lasted, count, many, bytes, foreign, link, button, facts } from "./dom.js";
import { get, lines } from "./api.js";
import { statement, line } from "./sql.js";
import { Player, Stage } from "./stage.js";
import { stopButton } from "./sessions.js";

export async function open(context) {
  const page = new Session(context);
  await page.load();
  return page;
}

// maxLines bounds what of a recording a page holds.
const maxLines = 200000;

class Session {
  constructor(context) {
    Object.assign(this, context);
    this.head = el("div");
    this.list = el("ol.timeline");
    this.more = el("div.more");
    this.theatre = el("div");
    this.element = el("div", null, el("p.back", null, link("/sessions", {}, icon("back"), "All sessions")), this.head, this.theatre, el("h2", null, "Operations"), this.list, this.more);
    this.shown = new Map(); // entry -> what is drawn of it
  }

  close() {
    this.player?.pause();
    this.stopWatching?.abort();
  }

  async load() {
    this.session = await get("/sessions/" + this.id);
    this.paint();
    await this.page("");
    const anchor = location.hash && this.list.querySelector("#" + CSS.escape(location.hash.slice(1)));
    if (anchor) { anchor.open = true; setTimeout(() => anchor.scrollIntoView({ block: "center" })); }
    if (!this.list.children.length) this.list.append(el("li.quiet", null, "Nothing was asked in it."));
  }

  async told(kind) {
    if (kind !== "ledger" || this.session.ended_at || this.asking) return;
    this.asking = true;
    try {
      this.session = await get("/sessions/" + this.id);
      this.paint();
      const unsettled = [...this.shown].find(([, d]) => ["unsettled", "held"].includes(d.o.outcome));
      const last = [...this.shown.keys()].at(-1);
      if (!this.more.children.length) await this.page(unsettled ? unsettled[0] - 1 : last ?? "");
    } catch (e) {
      this.say(e.message, "bad");
    } finally {
      this.asking = false;
    }
  }

  async page(cursor) {
    const page = await get("/sessions/" + this.id + "/operations", { cursor, limit: 200 });
    if (page.items.length) this.list.querySelector(":scope > .quiet")?.remove();
    for (const o of page.items) this.draw(o);
    fill(this.more, page.next ? button("More", {}, () => this.attempt(() => this.page(page.next))) : null);
  }

  paint() {
    const s = this.session;
    const key = JSON.stringify(s);
    if (key === this.painted) return;
    this.painted = key;
    const mine = s.subject === this.me.subject && s.issuer === this.me.issuer;
    fill(this.head,
      el("header.head", null, el("h1", null, who(s), el("span.quiet", null, " on "), foreign(s.connection)),
        el("div.actions", null, state(s.state),
          s.state === "turned-away" || s.erased ? null : button([icon("play"), "Replay"], { class: "primary" }, () => this.attempt(() => this.replay())),
          s.ended_at ? null : button([icon("eye"), "Watch"], {}, () => this.attempt(() => this.watch())),
          s.ended_at || !(mine || this.me.roles.includes("admin")) ? null : stopButton(this, s),
          s.state === "turned-away" ? null : el("a.button", { href: "/api/v1/evidence?session=" + s.id, download: "evidence-" + s.id + ".tar.gz" }, "Evidence"))),
      facts([["Begun", when(s.started_at)], ["Lasted", s.ended_at ? lasted(new Date(s.ended_at) - new Date(s.started_at)) : null], ["Ended", s.reason ? foreign(s.reason) : null],
        ["Operations", count(s.operations)], ["Protocol", s.protocol], ["From", foreign(s.client)], ["Groups", s.groups?.join(", ")], ["Subject", foreign(s.subject)], ["Issuer", foreign(s.issuer)],
        ["Rule", s.rule ? foreign(s.rule) : null], ["Session", el("code", null, s.id)],
        ["Recording", s.erased ? el("span", null, "erased ", when(s.erased.at), s.erased.reason ? [": ", foreign(s.erased.reason)] : null) : s.held ? el("span", null, "on legal hold: ", foreign(s.held.reason)) : null]]),
      s.state === "turned-away" ? null : el("p.note", null, "Whoever looks at what came back is on record: replaying, watching, or opening an answer adds an entry to the ledger."));
  }

  draw(o) {
    const known = this.shown.get(o.entry);
    if (known) {
      if (JSON.stringify(known.o) !== JSON.stringify(o)) { known.o = o; fill(known.summary, this.summary(o)); known.detail = undefined; if (known.element.open) this.fillIn(known); }
      return;
    }
    const d = { o, summary: el("summary"), body: el("div.inside") };
    fill(d.summary, this.summary(o));
    d.element = el("details", { id: "entry-" + o.entry, toggle: () => { if (d.element.open) this.fillIn(d); } }, d.summary, d.body);
    this.shown.set(o.entry, d);
    this.list.append(el("li", null, d.element));
  }

  summary(o) {
    return [when(o.at), state(o.outcome), line(o.text), el("span.quiet.end", null, o.rows ? many(o.rows, "row") : null, o.masked ? ", " + count(o.masked) + " hidden" : null)];
  }

  fillIn(d) {
    if (d.detail) return;
    d.detail = true;
    const o = d.o;
    const answer = el("div");
    fill(d.body, statement(o.text, { protocol: this.session.protocol }),
      o.params?.length ? el("p.params", null, o.params.map((p, i) => [el("span.sql-param", null, "$" + (i + 1)), " ", el("code", null, foreign(p)), " "])) : null,
      facts([["Decision", el("span", null, state(o.effect), o.rule ? [" by ", el("code", null, foreign(o.rule))] : null)],
        ["Does", o.verbs?.length ? o.verbs.map((v) => chip(v)) : null], ["Touches", o.objects?.length ? o.objects.map((x) => el("code", null, foreign(x))) : null],
        ["Hidden by", o.masks?.length ? o.masks.map((m) => el("code", null, foreign(m))) : null], ["Dry-run says otherwise", o.dry_run?.length ? o.dry_run.map((m) => el("code", null, foreign(m))) : null],
        ["Approval", o.approval ? link("/approvals/" + o.approval, {}, "by which it was let through") : null],
        ["Outcome", el("span", null, state(o.outcome), o.code ? [" ", el("code", null, foreign(o.code))] : null)],
        ["Came back", o.settled_entry ? many(o.rows, "row") + ", " + bytes(o.bytes) + (o.masked ? ", " + count(o.masked) + " values hidden" : "") : null],
        ["Entry", el("span", null, count(o.entry), " ", link("/ledger?entry=" + o.entry, {}, "prove it"))], ["Class", o.class]]),
      o.settled_entry && o.bytes ? button([icon("eye"), "Show what came back"], {}, (b) => this.attempt(async () => {
        const stage = new Stage(this.session.protocol, true);
        stage.take({ operation: o });
        await lines("/sessions/" + this.id + "/operations/" + o.entry + "/answer", {}, (l) => stage.take(l));
        fill(answer, stage.element);
        b.remove();
      })) : null, answer);
  }

  async replay() {
    this.close();
    const all = [];
    fill(this.theatre, el("p.quiet", { role: "status" }, "Reading the recording…"));
    const stop = new AbortController();
    try {
      await lines("/sessions/" + this.id + "/replay", {}, (l) => { if (all.length < maxLines) all.push(l); else stop.abort(); }, stop.signal);
    } catch (e) {
      if (e.name !== "AbortError") { fill(this.theatre); throw e; }
      this.say("The recording is too long for a page: its first " + count(maxLines) + " parts are shown. custos session replay shows all of it.", "bad");
    }
    this.player = new Player(this.session, all.filter((l) => !l.session));
    fill(this.theatre, this.player.element);
    this.player.play();
    this.player.stage.element.focus({ preventScroll: true });
  }

  async watch() {
    this.close();
    const stage = new Stage(this.session.protocol);
    const status = el("p.quiet", { role: "status" }, state("open"), " What is done from now on appears here.");
    fill(this.theatre, el("section.player", { "aria-label": "Live" }, status, stage.element));
    this.stopWatching = new AbortController();
    lines("/sessions/" + this.id + "/tail", {}, (l) => stage.take(l), this.stopWatching.signal).then(
      (end) => fill(status, state("closed"), " The session has ended", end.reason ? [": ", foreign(end.reason)] : null, "."),
      (e) => { if (e.name !== "AbortError") fill(status, el("span.problem", null, e.message)); });
  }
}
