// What was put out to a terminal, as lines: enough of ECMA-48 for shells and
// what runs in them to read as they did. What draws a whole screen is shown as
// lines as well.

import { el, shown } from "./dom.js";

// One of: a CSI or OSC sequence, another escape, a control, or text.
const part = /\x1b\[([0-?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[PX^_][\s\S]*?\x1b\\|\x1b[ -/]*[0-~]|([\r\n\b\t\x07])|([^\x1b\r\n\b\t\x07]+)|(\x1b)/g;

const maxLines = 2000, maxColumns = 1000;

export class Terminal {
  constructor() {
    this.element = el("pre.output.terminal", { tabindex: "0", "aria-label": "Terminal" });
    this.style = "";
    this.rest = ""; // the beginning of a sequence that has not come whole
    this.newLine();
  }

  newLine() {
    this.cells = [];
    this.column = 0;
    this.row = el("span");
    if (this.element.childNodes.length) this.element.append("\n");
    this.element.append(this.row);
    while (this.element.childNodes.length > 2 * maxLines) this.element.firstChild.remove();
  }

  write(text) {
    text = this.rest + text;
    const open = text.lastIndexOf("\x1b");
    const tail = open >= 0 ? text.slice(open) : "";
    this.rest = /^\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]{0,500}|)$/.test(tail) ? tail : "";
    if (this.rest) text = text.slice(0, open);
    for (const m of text.matchAll(part)) {
      if (m[2]) this.control(m[2], m[1]);
      else if (m[3] === "\n") { this.draw(); this.newLine(); }
      else if (m[3] === "\r") this.column = 0;
      else if (m[3] === "\b") this.column = Math.max(0, this.column - 1);
      else if (m[3] === "\t") this.column = Math.min(maxColumns, (Math.floor(this.column / 8) + 1) * 8);
      else if (m[4] || m[5]) for (const c of m[4] || m[5]) this.put(c);
    }
    this.draw();
  }

  put(c) {
    if (this.column >= maxColumns) { this.draw(); this.newLine(); }
    while (this.cells.length < this.column) this.cells.push([" ", ""]);
    this.cells[this.column++] = [c, this.style];
  }

  control(what, numbers) {
    const n = Math.max(1, parseInt(numbers, 10) || 1);
    if (what === "K") {
      if (/^$|^0$/.test(numbers)) this.cells.length = Math.min(this.cells.length, this.column);
      else this.cells = numbers === "1" ? this.cells.map((c, i) => (i <= this.column ? [" ", ""] : c)) : [];
    } else if (what === "C") this.column = Math.min(maxColumns, this.column + n);
    else if (what === "D") this.column = Math.max(0, this.column - n);
    else if (what === "G") this.column = Math.min(maxColumns, n - 1);
    else if (what === "P") this.cells.splice(this.column, n);
    else if (what === "@") this.cells.splice(this.column, 0, ...Array.from({ length: Math.min(n, maxColumns) }, () => [" ", ""]));
    else if (what === "m") this.paint(numbers);
    else if (what === "H" || what === "J" && /^[23]$/.test(numbers)) { this.draw(); if (this.cells.length) this.newLine(); }
  }

  // paint sets bold and one of the eight colours; others leave text as it is.
  paint(numbers) {
    for (const n of (numbers || "0").split(";").map(Number)) {
      if (n === 0) this.style = "";
      else if (n === 1) this.style = (this.style + " t-bold").trim();
      else if (n >= 30 && n <= 37 || n >= 90 && n <= 97) this.style = (this.style.replace(/t-\d/, "") + " t-" + (n % 10)).trim();
      else if (n === 39) this.style = this.style.replace(/t-\d/, "").trim();
      else if (n === 38 || n === 48) return;
    }
  }

  draw() {
    const parts = [];
    let run = "", style = "";
    const flush = () => { if (run) parts.push(style ? el("span", { class: style }, shown(run)) : shown(run)); run = ""; };
    for (const [c, s] of this.cells) {
      if (s !== style) { flush(); style = s; }
      run += c;
    }
    flush();
    this.row.replaceChildren(...parts.flat());
  }
}
