// Connections: what one may reach, and, for administrators, where it is.

import { el, fill, chip, foreign, shown, link, button, facts, empty } from "./dom.js";
import { get, post } from "./api.js";

export async function open(context) {
  const all = await get("/connections");
  const list = el("ul.cards.wide", null, all.map((c) => card(context, c)));
  return { element: el("div", null, el("h1", null, "Connections"), all.length ? list : empty("No connection is open to you", "Which groups may use one is said in its access.")) };
}

function card(context, c) {
  const result = el("p", { role: "status" });
  const how = c.path ? location.origin + c.path : c.port ? location.hostname + ":" + c.port : null;
  return el("li.card", null, el("h2", null, foreign(c.name), " ", chip(c.protocol)),
    facts([
      ["Labels", c.labels && Object.keys(c.labels).length ? Object.entries(c.labels).map(([k, v]) => el("code", null, foreign(k), ": ", foreign(v))) : null],
      ["Reached at", how ? el("code", null, how) : "the gateway does not listen for it"],
      ["With", el("code", null, "custos connect " + c.name)],
      ...(c.admin ? [
        ["Target", el("code", null, foreign(c.admin.address))],
        ["Database", c.admin.database ? el("code", null, foreign(c.admin.database)) : null],
        ["Logs in as", c.admin.username ? foreign(c.admin.username) : null],
        ["TLS", c.admin.tls || "verify-full"],
        ["Open to", c.admin.groups.length ? c.admin.groups.join(", ") : el("span.problem", null, "nobody")],
        ["Recordings are kept", c.admin.retention || "for ever"],
        ["Defined", c.admin.managed ? "at run time" : "in the configuration file"],
      ] : [])]),
    el("div.actions", null, link("/sessions?connection=" + encodeURIComponent(c.name), { class: "button" }, "Sessions"),
      c.admin ? button("Test", {}, () => context.attempt(async () => {
        fill(result, "Logging in to the target…");
        const t = await post("/connections/" + encodeURIComponent(c.name) + "/test");
        fill(result, t.ok ? el("span.good-text", null, "The gateway logged in, and out again.") : el("span.problem", null, shown(t.error)));
      })) : null), result);
}
