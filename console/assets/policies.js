// Policies: the rules in force, and what they say of a statement.

import { el, fill, icon, chip, state, count, foreign, shown, link, facts } from "./dom.js";
import { get, post } from "./api.js";

export async function open(context) {
  const [set, connections] = await Promise.all([get("/policies"), get("/connections")]);
  const filter = el("input", { type: "search", id: "filter", autocomplete: "off" });
  const list = el("ul.rules");
  const paint = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = set.rules.filter((r) => words.every((w) => JSON.stringify(r).toLowerCase().includes(w)));
    fill(list, found.map(rule));
    fill(counted, count(found.length), " of ", count(set.rules.length), " rules");
  };
  const counted = el("p.quiet", { role: "status" });
  filter.addEventListener("input", paint);
  paint();
  return { element: el("div", null, el("header.head", null, el("h1", null, "Policies"), el("p.quiet", null, "version ", el("code", null, set.version.slice(0, 12)))),
    tester(context, connections), el("h2", null, "Rules in force"), el("p", null, "Refuse beats approve, approve beats allow, masks add up. Where no rule applies, what access admits is allowed."),
    el("label.field", { for: "filter" }, el("span", null, "Narrow"), filter), counted, list) };
}

const tone = { refuse: "bad", approve: "held", allow: "good" };
const word = { refuse: "refuses", approve: "asks people", allow: "allows", mask: "hides" };

function rule(r) {
  return el("li", null, el("details", null,
    el("summary", null, chip(word[r.then], tone[r.then]), el("strong", null, foreign(r.name)),
      r.dry_run ? chip("dry-run" + (r.would ? ": " + count(r.would) + " in 30 days" : ""), "warn") : null, el("span.quiet", null, shown(r.why || r.reason || ""))),
    el("div.inside", null, facts([
      ["Why", r.why ? foreign(r.why) : null],
      ["Connections", r.connections ? Object.entries(r.connections).map(([k, v]) => el("code", null, foreign(k), ": ", foreign(v))) : "all"],
      ["Callers", [r.groups?.length ? "in " + r.groups.join(" or ") : null, r.kinds?.length ? "of kind " + r.kinds.join(" or ") : null].filter(Boolean).join(", ") || "all"],
      ["When", r.when ? el("pre.code", { tabindex: "0" }, shown(r.when)) : "always"],
      ["Asks", r.approvers ? (r.approvers.groups?.length ? "anyone in " + r.approvers.groups.join(", ") : "any reviewer") + (r.approvers.count > 1 ? ", " + r.approvers.count + " must agree" : "") +
        (r.approvers.within ? ", within " + r.approvers.within : "") + (r.approvers.break_glass ? "; in an emergency nobody" : "") : null],
      ["Hides", r.masks ? r.masks.map((m) => el("div", null, [["columns", m.columns], ["results", m.results], ["tags", m.tags], ["kinds of data", m.detect]].filter(([, l]) => l?.length)
        .map(([k, l]) => [k, " ", l.map((x) => [el("code", null, foreign(x)), " "])]), "with ", m.with)) : null],
      ["Says", r.reason ? foreign(r.reason) : null], ["Hint", r.hint ? foreign(r.hint) : null], ["Written", r.at ? el("code", null, foreign(r.at)) : null],
      ["In dry-run", r.dry_run ? (r.would ? "It would have decided otherwise on " + count(r.would) + " operations of the last 30 days." : "It would have changed nothing in the last 30 days.") : null]]))));
}

// tester asks the rules about a statement.
function tester(context, connections) {
  const connection = el("select", { id: "t-connection" }, connections.map((c) => el("option", { value: c.name }, c.name)));
  const kind = el("select", { id: "t-kind" }, ["person", "skill", "ci", "workload"].map((k) => el("option", { value: k }, k)));
  const groups = el("input", { id: "t-groups", autocomplete: "off", placeholder: "dba, support" });
  const text = el("textarea.mono", { id: "t-statement", rows: "3", spellcheck: "false", placeholder: "DELETE FROM orders" });
  const result = el("div", { role: "status" });
  const field = (id, label, control) => el("label.field", { for: id }, el("span", null, label), control);
  return el("details.tester", null, el("summary", null, icon("play"), "Test a statement against them"),
    el("form", { submit: (e) => {
      e.preventDefault();
      context.attempt(async () => {
        fill(result);
        const x = await post("/policies/explain", { connection: connection.value, statement: text.value, kind: kind.value, groups: groups.value.split(",").map((g) => g.trim()).filter(Boolean) });
        fill(result, explanation(x));
      });
    } }, field("t-statement", "Statement", text), el("div.filters", null, field("t-connection", "On", connection), field("t-kind", "By a", kind), field("t-groups", "In groups", groups)),
      el("div.actions", null, el("button.primary", { type: "submit" }, "What do they say?"))), result);
}

function explanation(x) {
  const fired = x.rules.filter((r) => r.matched);
  const row = (r) => el("tr", null, el("td", null, el("code", null, foreign(r.rule)), r.dry_run ? " (dry-run)" : ""), el("td", null, word[r.then] || r.then),
    el("td", null, r.decides ? chip("decides", "held") : r.matched ? "applies" : el("span.quiet", null, "no")), el("td", null, foreign(r.why)));
  return el("div.card", null, el("p.verdict", null, state(x.effect), x.rule ? [" by ", el("code", null, foreign(x.rule))] : " by no rule", x.reason ? [": ", foreign(x.reason)] : null),
    facts([["Hint", x.hint ? foreign(x.hint) : null], ["Does", x.verbs.map((v) => chip(v))], ["Effects", x.effects.map((v) => el("code", null, v))], ["Touches", x.objects.map((v) => el("code", null, foreign(v)))],
      ["Not known", x.unknown?.map((u) => el("div", null, foreign(u)))]]),
    el("p.quiet", null, "The target was not asked what it has: columns, keys and functions of its own are judged in a session as they are there. ", link("/ledger", {}, "Each decision is on record.")),
    el("div.scroll", { tabindex: "0", role: "region", "aria-label": "What each rule says" }, el("table.list", null, el("thead", null, el("tr", null, ["Rule", "Then", "Applies", "Why"].map((h) => el("th", { scope: "col" }, h)))),
      el("tbody", null, fired.map(row), x.rules.filter((r) => !r.matched).map(row)))));
}
