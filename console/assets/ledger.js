// The ledger: how it stands with it, and whether it holds, as this page itself
// checks.

import { el, fill, icon, chip, when, count, foreign, shown, link, facts } from "./dom.js";
import { get, text, bytes, Problem } from "./api.js";
import { publicKey, checkpoint, cosignedAt, inclusion, consistency, tiles, Damage, unbase64 } from "./verify.js";

export async function open(context) {
  const page = new Ledger(context);
  await page.load();
  return page;
}

// What this browser saw before, of this gateway.
const seenAt = "custos-ledger";
const seen = () => { try { return JSON.parse(localStorage.getItem(seenAt)); } catch { return null; } };

class Ledger {
  constructor(context) {
    Object.assign(this, context);
    this.sees = this.me.roles.some((r) => r === "admin" || r === "auditor");
    this.badge = el("section.badge", { role: "status", "aria-label": "Verification" });
    this.state = el("section");
    this.entries = el("section");
    this.proof = el("div", { role: "status" });
    const number = el("input", { id: "entry", type: "number", min: "0", inputmode: "numeric", placeholder: "number of the entry", value: this.query.get("entry") || "" });
    const ask = () => this.attempt(() => this.prove(Number(number.value)));
    this.element = el("div", null, el("h1", null, "Ledger"), this.badge, this.state,
      el("section", null, el("h2", null, "Prove an entry"), el("form.joined", { submit: (e) => { e.preventDefault(); if (number.value !== "") ask(); } },
        el("label.away", { for: "entry" }, "Number of the entry"), number, el("button.primary", { type: "submit" }, "Prove it")), this.proof), this.entries);
    if (number.value !== "") ask();
  }

  async load() {
    this.now = await get("/ledger");
    this.paint();
    await Promise.all([this.verify(), this.sees ? this.list() : null]);
  }

  told(kind) {
    if (kind !== "ledger" || this.busy) return;
    this.busy = setTimeout(() => { this.busy = undefined; this.load().catch(() => {}); }, 3000);
  }

  close() { clearTimeout(this.busy); }

  paint() {
    const s = this.now;
    fill(this.state, el("h2", null, "How it stands"), s.refuses ? el("p.problem", { role: "alert" }, "The ledger refuses entries, so nothing is forwarded: ", foreign(s.refuses)) : null,
      s.problem ? el("p.problem", null, foreign(s.problem)) : null,
      facts([["Entries", count(s.size)], ["Durable", count(s.durable)], ["Under a signed checkpoint", count(s.signed)], ["Under a published one", count(s.published)],
        ["Public key", el("code.wrap", null, s.public_key)],
        ["Witnesses", s.witnesses.length ? s.witnesses.map((w) => el("div", null, foreign(w.name), ": ", w.at && !w.at.startsWith("0001") ? ["cosigned ", count(w.size), " entries, ", when(w.at)] : "has not cosigned yet",
          w.problem ? el("span.problem", null, " ", foreign(w.problem)) : null)) : "none: that nothing was changed rests on whoever keeps an old checkpoint, such as this browser"],
        ["Cosignatures needed", s.quorum ? count(s.quorum) : null]]));
  }

  // verify checks the checkpoint, and shows what was found.
  async verify() {
    const checks = [];
    let damaged;
    const check = async (what, act) => {
      if (damaged) return;
      try {
        checks.push([true, await act() || what]);
      } catch (e) {
        if (e.name === "NotSupportedError") damaged = new Problem(0, "this browser knows no Ed25519; use a newer one, or custos ledger verify");
        else damaged = e;
        checks.push([false, what + ": " + damaged.message]);
      }
    };
    const before = seen();
    let key, c;
    await check("the public key", async () => {
      key = await publicKey(this.now.public_key);
      if (before && before.key !== this.now.public_key) throw new Damage("it is not the one that this browser saw before");
      return before ? "The public key is the one that this browser saw first, " + new Date(before.first).toLocaleDateString() : "The public key is remembered from now on: compare it once with the one you were given";
    });
    await check("the checkpoint", async () => {
      c = await checkpoint(await text("/ledger/checkpoint"), key);
      return "The checkpoint over " + count(c.size) + " entries is signed by it";
    });
    if (before && !damaged) {
      await check("the past", async () => {
        await consistency({ size: before.size, root: unbase64(before.root) }, c, tiles(c.size, tile));
        return before.size === c.size ? "It is the one that this browser saw before" : "It goes on from the " + count(before.size) + " entries that this browser saw before: nothing of them was changed or taken away";
      });
    }
    for (const k of this.now.witness_keys) {
      await check("a witness", async () => {
        const at = await cosignedAt(c, k);
        return k.split("+")[0] + (at ? " cosigned it, " + at.toLocaleString() : " has not cosigned this one");
      });
    }
    if (this.sees && c?.size) {
      await check("an entry", async () => {
        const n = Math.floor(Math.random() * c.size);
        const p = await get("/ledger/prove", { entry: n });
        const found = await inclusion(p.proof, p.leaf, key);
        if (found.index !== n) throw new Damage("the proof is of another entry");
        return "Entry " + count(n) + ", taken at random, is under it";
      });
    }
    if (!damaged) localStorage.setItem(seenAt, JSON.stringify({ key: this.now.public_key, size: c.size, root: c.rootText, first: before?.first ?? Date.now() }));
    const bad = damaged instanceof Damage;
    this.badge.className = "badge " + (damaged ? (bad ? "bad" : "warn") : "good");
    fill(this.badge, el("p.lead", null, icon(damaged ? "warning" : "check"), damaged ? (bad ? "The ledger does not hold" : "The ledger was not checked") : "Checked by this page: the ledger holds"),
      el("ul", null, checks.map(([ok, what]) => el("li", { class: ok ? "ok" : "not" }, icon(ok ? "check" : "cross"), what))),
      el("p.quiet", null, "A page that the gateway gives checks as well as the gateway lets it. ", el("code", null, "custos ledger verify"), ", run by somebody else with the public key, needs nobody's word."));
  }

  async prove(n) {
    fill(this.proof, el("p.quiet", null, "…"));
    try {
      const p = await get("/ledger/prove", { entry: n });
      const { checkpoint: c } = await inclusion(p.proof, p.leaf, await publicKey(this.now?.public_key ?? (await get("/ledger")).public_key));
      const file = URL.createObjectURL(new Blob([p.proof], { type: "text/plain" }));
      fill(this.proof, el("p.good-text", null, icon("check"), " Entry " + count(n) + " is under the signed checkpoint over " + count(c.size) + " entries, as this page checked."), leaf(p.leaf),
        el("div.actions", null, el("a.button", { href: file, download: "entry-" + n + ".tlog-proof" }, "The proof, as a file")));
    } catch (e) {
      fill(this.proof, el("p.problem", { role: "alert" }, e.message));
    }
  }

  async list() {
    const from = Math.max(0, this.now.size - 40);
    const { items } = await get("/ledger/entries", { cursor: from, limit: 40 });
    if (this.entries.querySelector("details[open]")) return; // somebody reads one
    fill(this.entries, el("h2", null, "The newest entries"), el("ol.entries", null, items.reverse().map(({ entry, leaf: text }) => {
      const e = JSON.parse(text);
      return el("li", null, el("details", null, el("summary", null, el("span.number", null, count(entry)), when(e.at), chip(e.kind), el("span.quiet", null, about(e))), leaf(text),
        e.session ? link("/sessions/" + e.session, {}, "The session") : null));
    })));
  }
}

// about says in a few words what an entry is about.
function about(e) {
  if (e.opened) return [foreign(e.opened.caller.name || e.opened.caller.subject), " on ", foreign(e.opened.connection)];
  if (e.submitted) return [e.submitted.effect, " ", (e.submitted.verbs || []).join(", "), " ", foreign((e.submitted.objects || []).join(", "))];
  if (e.settled) return ["entry " + count(e.settled.operation) + ": " + e.settled.state];
  if (e.note) return [foreign(e.note.text || ""), e.note.by ? [" by ", foreign(e.note.by)] : null];
  if (e.closed) return foreign(e.closed.reason);
  if (e.approval) return e.approval.state;
  return null;
}

const leaf = (text) => el("pre.code", { tabindex: "0" }, shown(JSON.stringify(JSON.parse(text), null, 2)));

// tile fetches one. A partial one goes when it is whole.
async function tile(path) {
  try {
    return await bytes("/ledger/tile/" + path);
  } catch (e) {
    const [full, width] = path.split(".p/");
    if (e.status !== 404 || !width) throw e;
    return (await bytes("/ledger/tile/" + full)).slice(0, 32 * Number(width));
  }
}
