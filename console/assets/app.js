// The console's frame: where one is, who one is, and what is new.

import { el, fill, icon, button, link } from "./dom.js";
import { get, follow, signOut, Problem } from "./api.js";
import * as overview from "./overview.js";
import * as approvals from "./approvals.js";
import * as sessions from "./sessions.js";
import * as session from "./session.js";
import * as search from "./search.js";
import * as connections from "./connections.js";
import * as policies from "./policies.js";
import * as ledger from "./ledger.js";

const pages = [
  { path: /^\/$/, page: overview, title: "Overview", at: "/", icon: "overview" },
  { path: /^\/approvals(?:\/([a-z0-9]+))?$/, page: approvals, title: "Approvals", at: "/approvals", icon: "inbox" },
  { path: /^\/sessions$/, page: sessions, title: "Sessions", at: "/sessions", icon: "sessions" },
  { path: /^\/sessions\/([a-z2-7]+)$/, page: session, title: "Session", under: "/sessions" },
  { path: /^\/search$/, page: search, title: "Search", at: "/search", icon: "search" },
  { path: /^\/connections$/, page: connections, title: "Connections", at: "/connections", icon: "connections" },
  { path: /^\/policies$/, page: policies, title: "Policies", at: "/policies", icon: "policies", sees: (me) => me.roles.length > 0 },
  { path: /^\/ledger$/, page: ledger, title: "Ledger", at: "/ledger", icon: "ledger" },
];

const app = document.getElementById("app");
const main = el("main", { id: "main", tabindex: "-1" });
const said = el("div.said", { role: "status", "aria-live": "polite" });
const line = el("div.cut", { role: "status" });
let me, open, closeEvents;

// say tells what was done, or what went wrong, for a while.
function say(text, tone) {
  const note = el("p", { class: tone || "" }, text);
  said.append(note);
  setTimeout(() => note.remove(), tone === "bad" ? 12000 : 5000);
}

// attempt does what a button is for, and says what went wrong.
async function attempt(act) {
  try {
    return await act();
  } catch (e) {
    say(e.message, "bad");
    if (!(e instanceof Problem)) throw e;
  }
}

// go shows another page of the console.
function go(to, { replace } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", to);
  return show(true);
}

async function show(moved) {
  const found = pages.map((p) => ({ ...p, match: p.path.exec(location.pathname) })).find((p) => p.match);
  const key = found && found.at === "/approvals" ? found.at : location.pathname;
  const context = { me, go, say, attempt, countWaiting, id: found?.match[1], query: new URLSearchParams(location.search) };
  mark(found);
  document.title = (found ? found.title : "Not here") + " · custos";
  // A page that can goes from one of its own to the next without being made anew.
  if (open && open.key === key && open.page?.moved) { open.page.moved(context); return; }
  open?.page?.close?.();
  const mine = (open = { key });
  if (!found) { fill(main, el("h1", null, "Not here"), el("p", null, "There is no such page. ", link("/", {}, "Go to the overview."))); return; }
  main.setAttribute("aria-busy", "true");
  try {
    const page = await found.page.open(context);
    if (open !== mine) { page.close?.(); return; }
    mine.page = page;
    fill(main, page.element);
  } catch (e) {
    if (open !== mine) return;
    fill(main, el("h1", null, found.title), el("p.problem", { role: "alert" }, e.message));
    if (!(e instanceof Problem)) throw e;
  } finally {
    main.removeAttribute("aria-busy");
  }
  if (moved) { main.focus({ preventScroll: true }); scrollTo(0, 0); }
}

function mark(found) {
  for (const a of document.querySelectorAll("nav a")) {
    const here = found && (found.at || found.under) === a.getAttribute("href");
    if (here) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
}

// waiting counts what waits for whoever looks, beside the way to it.
const badge = el("span.count", { hidden: true });
async function countWaiting() {
  const { items } = await get("/approvals", { state: "pending" });
  const n = items.filter((a) => a.answerable).length;
  badge.hidden = n === 0;
  fill(badge, n, el("span.away", null, " waiting for you"));
}

function frame() {
  const place = (p) => el("li", null, link(p.at, {}, icon(p.icon), el("span", null, p.title), p.at === "/approvals" ? badge : null));
  const roles = me.roles.length ? me.roles.join(", ") : "own sessions";
  fill(app,
    el("header.side", null,
      link("/", { class: "brand" }, el("img", { src: "/icon.svg", alt: "", width: "26", height: "26" }), "custos"),
      el("nav", { "aria-label": "Console" }, el("ul", null, pages.filter((p) => p.at && (!p.sees || p.sees(me))).map(place))),
      el("div.me", null, icon("person"), el("div", null, el("strong", null, me.name || me.subject), el("small", null, roles)),
        button(icon("out"), { class: "plain", "aria-label": "Sign out", title: "Sign out" }, () => attempt(async () => { await signOut(); out("You are signed out."); })))),
    el("div.content", null, line, main), said);
}

function out(text) {
  closeEvents?.();
  open?.page?.close?.();
  open = undefined;
  me = undefined;
  document.title = "Sign in · custos";
  const next = location.pathname + location.search;
  fill(app, el("main.door", { id: "main", tabindex: "-1" },
    el("img", { src: "/icon.svg", alt: "", width: "56", height: "56" }),
    el("h1", null, "custos"), el("p", null, text),
    el("p", null, el("a.button.primary", { href: "/signin?next=" + encodeURIComponent(next) }, "Sign in"))));
}

document.addEventListener("signed-out", () => { if (me) out("Your session is over. Sign in to go on where you were."); });

document.addEventListener("click", (e) => {
  const a = e.target.closest("a[href]");
  if (!a || e.defaultPrevented || e.button !== 0 || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey || a.target || a.hasAttribute("download")) return;
  const to = new URL(a.href);
  if (to.origin !== location.origin || !me || !pages.some((p) => p.path.test(to.pathname))) return;
  e.preventDefault();
  go(to.pathname + to.search);
});

addEventListener("popstate", () => { if (me) show(false); });

// g and a letter goes to a page, / to the search.
let chord = false;
document.addEventListener("keydown", (e) => {
  if (!me || e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) return;
  const to = { o: "/", a: "/approvals", s: "/sessions", c: "/connections", p: "/policies", l: "/ledger" }[e.key];
  if (chord && to) { e.preventDefault(); go(to); }
  else if (e.key === "/") { e.preventDefault(); go("/search"); }
  chord = e.key === "g";
});

async function start() {
  try {
    me = await get("/whoami");
  } catch (e) {
    if (e.status === 401) return out("Who may do what, and who did what.");
    fill(app, el("main.door", { id: "main" }, el("h1", null, "custos"), el("p.problem", { role: "alert" }, e.message), el("p", null, link(location.href, { class: "button" }, "Try again"))));
    return;
  }
  frame();
  closeEvents = follow((kind, size) => {
    if (kind === "approvals") countWaiting().catch(() => {});
    open?.page?.told?.(kind, size);
  }, (alive) => {
    line.hidden = alive;
    fill(line, alive ? null : "The line to the gateway is cut: what is shown may be old. Trying again…");
  });
  line.hidden = true;
  await Promise.all([show(false), countWaiting().catch(() => {})]);
}

start();
