// The stage: operations and what came back of them, as they came. It is played
// by a clock, or live.

import { el, fill, icon, state, when, lasted, count, foreign, shown, button } from "./dom.js";
import { statement } from "./sql.js";
import { Terminal } from "./terminal.js";

// How much is drawn at once; what is left out is said.
const maxRows = 300, maxBlocks = 25, maxText = 100000;

// Block is one operation with its answer.
class Block {
  constructor(o, protocol, bare) {
    this.drawn = this.rows = this.text = 0;
    this.protocol = protocol;
    this.outcome = el("span");
    this.answer = el("div.answer-events");
    this.left = el("p.quiet");
    this.element = bare ? el("article.block", null, this.answer, this.left) : el("article.block", { "aria-label": "Operation " + o.entry },
      el("header", null, when(o.at), this.outcome, o.rule ? el("code", null, foreign(o.rule)) : null),
      statement(o.text, { protocol }),
      o.params?.length ? el("p.params", null, o.params.map((p, i) => [el("span.sql-param", null, "$" + (i + 1)), " ", el("code", null, foreign(p)), " "])) : null,
      this.answer, this.left);
    if (o.outcome !== "unsettled") this.settled(o);
  }

  settled(o) {
    fill(this.outcome, state(o.outcome), o.masked ? el("span.quiet", null, " ", count(o.masked), " values hidden") : null);
  }

  input(data) {
    this.answer.append(el("pre.input", { "aria-label": "Input" }, shown(data.slice(0, maxText))));
  }

  // output goes on where the last left off, unless something else came between.
  output(text) {
    const last = this.answer.lastChild;
    if (this.protocol === "kubernetes" || this.protocol === "ssh") {
      if (!this.terminal || last !== this.terminal.element) this.answer.append((this.terminal = new Terminal()).element);
      this.terminal.write(text);
    } else if (last?.matches?.(".output")) last.append(...shown(text));
    else this.answer.append(el("pre.output", { tabindex: "0" }, shown(text)));
  }

  event(e) {
    if (e.columns) {
      this.columns = e.columns;
      this.drawn = 0;
      this.body = el("tbody");
      this.answer.append(el("div.scroll", { tabindex: "0", role: "region", "aria-label": "Rows" }, el("table.data", null,
        el("thead", null, el("tr", null, e.columns.map((c) => el("th", { scope: "col" }, foreign(c))))), this.body)));
    } else if (e.row) {
      this.rows++;
      if (this.body && this.drawn < maxRows) {
        this.drawn++;
        this.body.append(el("tr", null, e.row.map((v) => (v === null ? el("td.null", null, "null") : el("td", null, foreign(v))))));
      }
    } else if (e.text) {
      if (this.text < maxText) this.output(e.text.slice(0, maxText - this.text));
      this.text += e.text.length;
    } else if (e.notice) this.answer.append(el("p.notice", null, foreign(e.notice)));
    else if (e.error) this.answer.append(el("p.problem", null, foreign(e.error)));
    else if (e.tag) this.answer.append(el("p.quiet", null, foreign(e.tag)));
    const more = this.rows > this.drawn && this.body ? count(this.rows - this.drawn) + " more rows are not drawn. " : "";
    fill(this.left, more, this.text > maxText ? "More of the text is not drawn." : null);
  }
}

export class Stage {
  // bare: what came back alone is shown, and not the operations.
  constructor(protocol, bare) {
    Object.assign(this, { protocol, bare });
    this.element = el("div.stage", { tabindex: "0", role: "log", "aria-label": "What was done and what came back" });
    this.blocks = new Map();
  }

  clear() {
    this.blocks.clear();
    this.element.replaceChildren();
  }

  // take shows a line of a stream.
  take(l) {
    const near = this.element.scrollHeight - this.element.scrollTop - this.element.clientHeight < 80;
    if (l.operation) {
      const b = new Block(l.operation, this.protocol, this.bare);
      this.blocks.set(l.operation.entry, b);
      this.element.append(b.element);
      while (this.blocks.size > maxBlocks) {
        const [first, old] = this.blocks.entries().next().value;
        old.element.remove();
        this.blocks.delete(first);
      }
    } else if (l.event) this.blocks.get(l.event.operation)?.event(l.event);
    else if (l.input) this.blocks.get(l.input.operation)?.input(unpacked(l.input.data));
    else if (l.settled) this.blocks.get(l.settled.entry)?.settled(l.settled);
    if (near) this.element.scrollTop = this.element.scrollHeight;
  }
}

const unpacked = (base64) => new TextDecoder().decode(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)));

// Longer silences are cut to this, where silence is skipped.
const idle = 1500;

// Player plays a whole session's lines by the time at which they came.
export class Player {
  constructor(session, lines) {
    this.stage = new Stage(session.protocol);
    const begun = new Date(session.started_at).getTime();
    const starts = new Map();
    this.frames = lines.map((l) => {
      let t = 0;
      if (l.operation) { t = new Date(l.operation.at) - begun; starts.set(l.operation.entry, t); }
      else if (l.event) t = (starts.get(l.event.operation) ?? 0) + l.event.at_us / 1000;
      else if (l.input) t = new Date(l.input.at) - begun;
      return { t, l };
    });
    // Answers of operations that overlap come as each was settled: by the time
    // of each part, and the order that they came in where it is the same.
    this.frames.forEach((f, i) => { f.i = i; });
    this.frames.sort((a, b) => a.t - b.t || a.i - b.i);
    this.operations = this.frames.filter((f) => f.l.operation);
    this.build();
    this.retime(true);
    this.seek(0);
  }

  build() {
    this.clock = el("output.clock", { for: "at" });
    this.at = el("input", { type: "range", id: "at", min: 0, step: "any", "aria-label": "Time in the session", input: () => { this.pause(); this.seek(Number(this.at.value)); } });
    this.ticks = el("svg.ticks", { viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.toggle = button(icon("play"), { class: "primary round", "aria-label": "Play" }, () => (this.playing ? this.pause() : this.play()));
    this.speed = el("select", { "aria-label": "Speed" }, [0.5, 1, 2, 4, 16, 64].map((s) => el("option", { value: s, selected: s === 1 }, s + "×")));
    this.skip = el("input", { type: "checkbox", checked: true, change: () => { this.retime(this.skip.checked); this.seek(this.now); } });
    this.element = el("section.player", { "aria-label": "Replay" },
      el("div.controls", null,
        button(icon("back"), { class: "round", "aria-label": "The operation before" }, () => this.step(-1)), this.toggle,
        button(icon("back"), { class: "round flipped", "aria-label": "The next operation" }, () => this.step(1)),
        el("div.track", null, this.ticks, this.at), this.clock, this.speed, el("label.check", null, this.skip, "skip silence")),
      this.stage.element);
    this.element.addEventListener("keydown", (e) => {
      if (/^(INPUT|SELECT|BUTTON)$/.test(e.target.tagName)) return;
      if (e.key === " ") { e.preventDefault(); this.toggle.click(); }
      if (e.key === "ArrowRight") this.step(1);
      if (e.key === "ArrowLeft") this.step(-1);
    });
  }

  // retime gives each frame its time in the play, p.
  retime(skip) {
    let p = 0, t = 0;
    for (const f of this.frames) {
      const gap = f.t - t;
      p += skip ? Math.min(gap, idle) : gap;
      t = f.t;
      f.p = Math.max(0, p);
    }
    this.end = p + 500;
    this.at.max = this.end;
    fill(this.ticks, this.operations.map((f) => el("rect", { class: "tick " + f.l.operation.outcome, x: Math.min(996, (1000 * f.p) / this.end), y: 0, width: 3, height: 10 })));
  }

  // seek shows what had come by p.
  seek(p) {
    const back = this.now === undefined || p < this.now;
    this.now = Math.max(0, Math.min(p, this.end));
    if (back) {
      this.stage.clear();
      // No more blocks are drawn than are kept.
      const past = this.operations.filter((f) => f.p <= this.now);
      this.next = past.length > maxBlocks ? this.frames.indexOf(past[past.length - maxBlocks]) : 0;
    }
    let came;
    while (this.next < this.frames.length && this.frames[this.next].p <= this.now) {
      came = this.frames[this.next++];
      this.stage.take(came.l);
    }
    this.at.value = this.now;
    const real = this.next > 0 ? this.frames[this.next - 1].t : 0;
    const text = lasted(Math.max(0, real)) + " of " + lasted(Math.max(0, this.frames.at(-1)?.t ?? 0));
    if (this.clock.textContent !== text) this.clock.textContent = text;
    this.at.setAttribute("aria-valuetext", text);
  }

  step(by) {
    this.pause();
    const i = this.operations.filter((f) => f.p <= this.now).length - 1;
    const f = this.operations[Math.max(0, Math.min(this.operations.length - 1, i + by))];
    if (!f) return;
    const after = this.operations[this.operations.indexOf(f) + 1];
    this.seek(by > 0 || i < 0 ? (after ? (f.p + after.p) / 2 : this.end) : f.p);
  }

  play() {
    if (this.now >= this.end) this.seek(0);
    this.playing = true;
    fill(this.toggle, icon("pause"));
    this.toggle.setAttribute("aria-label", "Pause");
    let last = performance.now();
    const tick = (t) => {
      if (!this.playing) return;
      this.seek(this.now + (t - last) * Number(this.speed.value));
      last = t;
      if (this.now >= this.end) this.pause();
      else requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  pause() {
    this.playing = false;
    fill(this.toggle, icon("play"));
    this.toggle.setAttribute("aria-label", "Play");
  }
}

