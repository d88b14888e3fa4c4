// Drives the console in headless chromium. What it is given comes as JSON on
// standard input; each step says ok on standard output, or ends it all.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import assert from "node:assert/strict";

const given = JSON.parse(readFileSync(0, "utf8"));
const require = createRequire(given.modules + "/");
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const wait = 20000;

const clients = [];

// psql runs a script as somebody, and settles when it ends.
function psql(who, sql, more = {}) {
  const p = spawn("psql", ["-X", "-v", "ON_ERROR_STOP=1"], { env: { ...process.env, ...given.pg, PGPASSWORD: given.tokens[who], ...more } });
  let out = "";
  p.stdout.on("data", (b) => { out += b; });
  p.stderr.on("data", (b) => { out += b; });
  p.stdin.on("error", () => {}); // it may end before it has read all
  p.stdin[more.open ? "write" : "end"](sql + "\n");
  clients.push(() => who + ": " + sql + "\n" + out);
  return { ended: new Promise((done) => p.on("close", (code) => done({ code, out }))), stdin: p.stdin, said: () => out };
}

// person is a browser of somebody's own, signed in.
async function person(name, options = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(wait);
  const wrong = [];
  page.on("pageerror", (e) => wrong.push(String(e)));
  page.on("console", (m) => { if (m.type() === "error" && !m.text().includes("net::ERR_NETWORK_CHANGED") && !/status of (400|401|403|404|409)/.test(m.text())) wrong.push(m.text()); });
  page.on("dialog", (d) => { wrong.push("a dialog: " + d.message()); d.dismiss(); });
  if (name) {
    await page.goto(given.url + "/");
    await page.getByRole("link", { name: "Sign in" }).click();
    await page.getByRole("button", { name, exact: true }).click();
    await page.getByRole("heading", { name: "Overview" }).waitFor();
  }
  return { context, page, wrong };
}

const picture = (page, name) => (given.screenshots ? page.screenshot({ path: `${given.screenshots}/${name}.png` }) : undefined);

// accessible has axe find nothing serious on a page.
async function accessible(page, what) {
  // The page's own policy lets no script in but its own: axe comes from outside
  // of it, through the debugger.
  await page.evaluate(axe + ";0");
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter((v) => v.impact === "serious" || v.impact === "critical")
    .map((v) => v.id + ": " + v.help + "\n" + v.nodes.slice(0, 4).map((n) => "  " + n.html.slice(0, 200) + "\n  " + n.failureSummary).join("\n"));
  assert.equal(serious.length, 0, what + ": " + serious.join("\n"));
}

const steps = [];
const step = (name, act) => steps.push([name, act]);

let ana, bob, carol;

step("nobody sees anything without signing in", async () => {
  const { page, context } = await person();
  await page.goto(given.url + "/sessions");
  await page.getByRole("link", { name: "Sign in" }).waitFor();
  assert.equal((await page.request.get(given.url + "/api/v1/sessions")).status(), 401);
  await picture(page, "signin");
  await accessible(page, "sign-in");
  await context.close();
});

step("sign in", async () => {
  ana = await person("ana");
  const cookies = await ana.context.cookies(given.url);
  const session = cookies.find((c) => c.name === "__Host-custos");
  assert.ok(session && session.httpOnly && session.secure && session.sameSite === "Strict", JSON.stringify(cookies));
  assert.equal(await ana.page.evaluate(() => document.cookie), "");
});

let held;
step("a held DELETE appears without a reload, is approved, and psql goes on", async () => {
  const { page } = ana;
  await page.getByRole("navigation").getByRole("link", { name: /Approvals/ }).click();
  await page.getByText("Nothing waits").first().waitFor();
  held = psql("bob", "SELECT id, name, email FROM customers ORDER BY id LIMIT 3;\nDELETE FROM payments WHERE id = 1 AND card LIKE '%' -- asked for by the customer\n;");
  const row = page.locator("[data-row]", { hasText: "DELETE FROM payments" });
  await row.waitFor();
  await page.keyboard.press("Tab");
  await row.click();
  await page.getByRole("button", { name: "Approve" }).waitFor();
  await page.getByText("Before it, in the session").waitFor();
  await picture(page, "approval");
  await accessible(page, "an approval");
  await page.getByLabel("Reason").fill("the customer asked");
  await page.getByRole("button", { name: "Approve" }).click();
  const { code, out } = await held.ended;
  assert.equal(code, 0, out);
  assert.match(out, /DELETE \d/);
  await page.locator(".detail .head").getByText("used").waitFor();
});

step("to deny takes a reason, which the client is told", async () => {
  const { page } = ana;
  const p = psql("bob", "DELETE FROM customers WHERE id = 2;");
  await page.locator("[data-row]", { hasText: "DELETE FROM customers WHERE id = 2" }).click();
  await page.getByRole("button", { name: "Deny" }).click();
  await page.getByText("To deny takes a reason").waitFor();
  await page.getByLabel("Reason").fill("not that one");
  await page.getByRole("button", { name: "Deny" }).click();
  const { code, out } = await p.ended;
  assert.notEqual(code, 0);
  assert.match(out, /a reviewer denied it: not that one/);
});

step("nobody answers their own", async () => {
  const { page } = ana;
  const p = psql("ana", "DELETE FROM customers WHERE id = 3;");
  await page.getByRole("button", { name: /^Waiting/ }).click();
  await page.locator("[data-row]", { hasText: "WHERE id = 3" }).click();
  await page.getByText("somebody else answers it").waitFor();
  assert.equal(await page.getByRole("button", { name: "Approve" }).count(), 0);
  const status = await page.evaluate(async () => {
    const token = await (await fetch("/signin/token")).text();
    const id = location.pathname.split("/").pop();
    return (await fetch("/api/v1/approvals/" + id + "/approve", { method: "POST", headers: { "Custos-Token": token, "Content-Type": "application/json" }, body: "{}" })).status;
  });
  assert.equal(status, 403);
  await page.goto(given.url + "/sessions");
  const live = page.locator("[data-live]", { hasText: "ana" });
  await live.getByRole("button", { name: "Stop" }).click();
  await live.getByRole("button", { name: "sure?" }).click();
  await p.ended;
});

step("what another site makes a browser do changes nothing", async () => {
  const p = psql("bob", "DELETE FROM customers WHERE id = 4;");
  const { page, context } = ana;
  await page.goto(given.url + "/approvals");
  const row = page.locator("[data-row]", { hasText: "WHERE id = 4" });
  await row.waitFor();
  const id = await row.getAttribute("data-row");
  const evil = await context.newPage();
  await context.route("https://evil.test/**", (r) => r.fulfill({ contentType: "text/html", body: "<!doctype html><title>evil</title>" }));
  await evil.goto("https://evil.test/");
  await evil.evaluate(async ([url, id]) => {
    for (const credentials of ["include", "same-origin"]) {
      await fetch(url + "/api/v1/approvals/" + id + "/approve", { method: "POST", mode: "no-cors", credentials, body: "{}" }).catch(() => {});
      await fetch(url + "/signout", { method: "POST", mode: "no-cors", credentials }).catch(() => {});
    }
  }, [given.url, id]);
  await Promise.all([evil.waitForNavigation(), evil.evaluate(([url, id]) => {
    const f = document.createElement("form");
    f.method = "POST";
    f.action = url + "/api/v1/approvals/" + id + "/approve";
    document.body.append(f);
    f.submit();
  }, [given.url, id])]);
  assert.match(await evil.content(), /401|not signed in/i);
  await evil.close();
  // With the cookie, but as no page of this origin sends it.
  const cookie = (await context.cookies(given.url)).map((c) => c.name + "=" + c.value).join("; ");
  const token = await page.evaluate(async () => (await fetch("/signin/token")).text());
  for (const headers of [{}, { "Custos-Token": token }, { "Custos-Token": token, "Sec-Fetch-Site": "cross-site" }, { "Custos-Token": token, "Sec-Fetch-Site": "same-origin", Origin: "https://evil.test" }, { "Sec-Fetch-Site": "same-origin" }, { "Custos-Token": "x", "Sec-Fetch-Site": "same-origin" }]) {
    const answer = await page.request.post(given.url + "/api/v1/approvals/" + id + "/approve", { headers: { Cookie: cookie, ...headers }, data: {} });
    assert.equal(answer.status(), 401, JSON.stringify(headers));
  }
  await page.reload();
  await row.locator(".left").waitFor(); // it waits still, and ana is signed in
  await row.click();
  await page.getByLabel("Reason").fill("enough");
  await page.getByRole("button", { name: "Deny" }).click();
  await p.ended;
});

const markup = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>";
step("hostile statements, columns and values are text", async () => {
  const p = psql("bob", `SELECT '${markup}' AS "${markup.replaceAll("\"", "")}", E'left \\u202e right' AS "\u202egnp.exe", 1 AS a;\nDELETE FROM customers WHERE name = '${markup}' OR name = '\u202e\u2066x';`, { PGCLIENTENCODING: "UTF8", PGAPPNAME: markup.slice(0, 60) });
  const { page } = ana;
  await page.goto(given.url + "/approvals");
  const row = page.locator("[data-row]", { hasText: "pwned" });
  await row.click();
  await page.locator(".hidden-char", { hasText: "U+202E" }).first().waitFor();
  await page.locator(".detail .code", { hasText: "<img src=x onerror" }).waitFor();
  await picture(page, "hostile");
  await page.getByLabel("Reason").fill(markup);
  await page.getByRole("button", { name: "Deny" }).click();
  await p.ended;
  await page.getByRole("link", { name: "the session" }).click();
  await page.getByRole("button", { name: "Replay" }).click();
  await page.getByRole("columnheader", { name: "<img src=x" }).waitFor();
  await page.locator(".data td", { hasText: "<script>window.pwned" }).waitFor();
  await page.goto(given.url + "/search?q=pwned");
  await page.locator(".results li", { hasText: "pwned" }).first().waitFor();
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.equal(await page.locator("main img, main script").count(), 0);
});

step("search finds", async () => {
  const { page } = ana;
  await page.keyboard.press("Escape");
  await page.goto(given.url + "/");
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await page.locator("main").click({ position: { x: 5, y: 5 } });
  await page.keyboard.press("/");
  const box = page.getByLabel(/Words of statements/);
  await box.waitFor();
  await box.fill("payments who:bob");
  await box.press("Enter");
  await page.locator(".results li", { hasText: "DELETE FROM payments" }).first().waitFor();
  assert.equal(await page.locator(".results li", { hasText: "WHERE id = 3" }).count(), 0);
  await picture(page, "search");
  await accessible(page, "search");
  await box.fill("nosuchfield:x");
  await box.press("Enter");
  await page.locator("[role=status] .problem").first().waitFor();
});

step("a replay plays, and is on record", async () => {
  const { page } = ana;
  await page.goto(given.url + "/search?q=" + encodeURIComponent("payments who:bob"));
  await page.locator(".results a", { hasText: "DELETE FROM payments" }).first().click();
  await page.getByRole("button", { name: "Replay" }).click();
  await page.locator(".stage .data td").first().waitFor();
  await page.locator(".stage", { hasText: "DELETE 1" }).waitFor();
  assert.match(await page.locator(".stage").innerText(), /@/);
  const at = page.getByRole("slider");
  const end = Number(await at.inputValue());
  assert.ok(end > 0);
  await page.getByRole("button", { name: "The operation before" }).click();
  assert.ok(Number(await at.inputValue()) < end);
  await page.getByRole("button", { name: "The operation before" }).click();
  await page.getByRole("button", { name: "The next operation" }).click();
  await picture(page, "replay");
  await accessible(page, "replay");
  const entries = await page.evaluate(async () => (await (await fetch("/api/v1/ledger/entries?limit=1000")).json()).items.map((e) => JSON.parse(e.leaf)));
  assert.ok(entries.some((e) => e.kind === "recording.viewed" && e.note.text === "replay" && e.note.by.endsWith("|ana")), "the view is on record");
});

step("a live session is watched, and stopped", async () => {
  const p = psql("bob", "SELECT 'begun';", { open: true });
  const { page } = ana;
  await page.goto(given.url + "/sessions");
  const live = page.locator("[data-live]", { hasText: "bob" });
  await live.waitFor();
  await picture(page, "sessions");
  await accessible(page, "sessions");
  await live.getByRole("link", { name: "Watch" }).click();
  await page.getByRole("button", { name: "Watch" }).click();
  await page.getByText("What is done from now on appears here").waitFor();
  p.stdin.write("SELECT 'watched by ana' AS word, pg_sleep(0);\n");
  await page.locator(".stage .data td", { hasText: "watched by ana" }).waitFor();
  await picture(page, "watch");
  p.stdin.write("SELECT pg_sleep(600);\n");
  await page.locator(".timeline", { hasText: "pg_sleep(600)" }).waitFor();
  const begun = Date.now();
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("button", { name: "sure?" }).click();
  const { out } = await p.ended;
  assert.match(out, /canceling statement|stopped by ana/i, out);
  assert.ok(Date.now() - begun < 10000);
  await page.getByText("The session has ended").waitFor();
});

step("the ledger's page checks it, and sees what does not hold", async () => {
  const { page, context } = ana;
  await page.goto(given.url + "/ledger");
  await page.locator(".badge.good", { hasText: "taken at random" }).waitFor();
  psql("bob", "SELECT 1;");
  await page.locator(".badge.good", { hasText: "that this browser saw before" }).waitFor();
  await picture(page, "ledger");
  await accessible(page, "ledger");
  await page.getByLabel("Number of the entry").fill("0");
  await page.getByRole("button", { name: "Prove it" }).click();
  await page.getByText("Entry 0 is under the signed checkpoint").waitFor();
  const lie = async (what, pattern, change, says) => {
    await context.route(pattern, async (r) => { const a = await r.fetch({ headers: { ...(await r.request().allHeaders()), "Sec-Fetch-Site": "same-origin" } }); await r.fulfill({ response: a, body: await change(await a.text()) }); });
    await page.reload();
    await page.locator(".badge.bad", { hasText: says }).waitFor();
    await context.unroute(pattern);
  };
  await lie("a root", "**/api/v1/ledger/checkpoint", (t) => t.replace(/^(.*\n.*\n)(.)/, (_, a, c) => a + (c === "A" ? "B" : "A")), "not signed by the ledger's key");
  await lie("a leaf", "**/api/v1/ledger/prove?*", (t) => t.replace("20", "21"), "does not lead to the checkpoint's root");
  const before = await page.evaluate(() => localStorage.getItem("custos-ledger"));
  await page.evaluate(() => { const s = JSON.parse(localStorage.getItem("custos-ledger")); s.root = btoa("x".repeat(32)); localStorage.setItem("custos-ledger", JSON.stringify(s)); });
  await page.reload();
  await page.locator(".badge.bad", { hasText: "the past was changed" }).waitFor();
  await page.evaluate((s) => { const o = JSON.parse(s); o.size += 1000000; localStorage.setItem("custos-ledger", JSON.stringify(o)); }, before);
  await page.reload();
  await page.locator(".badge.bad", { hasText: "fewer entries" }).waitFor();
  await page.evaluate((s) => localStorage.setItem("custos-ledger", s), before);
});

step("connections and policies", async () => {
  const { page } = ana;
  await page.goto(given.url + "/connections");
  await page.getByRole("button", { name: "Test" }).click();
  await page.getByText("The gateway logged in").waitFor();
  await picture(page, "connections");
  await accessible(page, "connections");
  await page.goto(given.url + "/policies");
  await page.getByText("Test a statement against them").click();
  await page.getByLabel("Statement").fill("DELETE FROM orders");
  await page.getByRole("button", { name: "What do they say?" }).click();
  await page.locator(".verdict").waitFor();
  assert.match(await page.locator(".verdict").innerText(), /refused|held/);
  await page.locator(".rules summary", { hasText: "deletes-need-a-person" }).click();
  await picture(page, "policies");
  await accessible(page, "policies");
});

step("the overview shows who did what", async () => {
  const { page } = ana;
  await page.goto(given.url + "/");
  await page.locator(".bars", { hasText: "bob" }).waitFor();
  await picture(page, "overview");
  await accessible(page, "overview");
});

step("others see what is theirs", async () => {
  carol = await person("carol");
  await carol.page.goto(given.url + "/connections");
  await carol.page.getByText("No connection is open to you").waitFor();
  await carol.page.goto(given.url + "/policies");
  await carol.page.locator(".rules", { hasText: "hide-mail" }).waitFor();
  bob = await person("bob");
  assert.equal(await bob.page.getByRole("link", { name: "Policies" }).count(), 0);
  await bob.page.goto(given.url + "/connections");
  await bob.page.locator(".card", { hasText: "orders" }).waitFor();
  assert.equal(await bob.page.getByText("Logs in as").count(), 0);
  await bob.page.goto(given.url + "/sessions");
  await bob.page.locator("tbody tr", { hasText: "bob" }).first().waitFor();
  assert.equal(await bob.page.locator("tbody tr", { hasText: "ana" }).count(), 0);
  const others = await ana.page.evaluate(async () => (await (await fetch("/api/v1/sessions?caller=ana")).json()).items[0].id);
  await bob.page.goto(given.url + "/sessions/" + others);
  await bob.page.locator(".problem", { hasText: "no such thing" }).waitFor();
});

step("in the dark, and on a phone", async () => {
  const state = await ana.context.storageState();
  for (const [name, options] of [["dark", { colorScheme: "dark" }], ["phone", { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true }],
    ["phone-dark", { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, colorScheme: "dark" }]]) {
    const p = psql("bob", "DELETE FROM customers WHERE id = 5 AND name = 'somebody with a rather long name' AND email LIKE '%@example.com';");
    const { page, context, wrong } = await person(null, { ...options, storageState: state });
    for (const path of ["/", "/approvals", "/sessions", "/search?q=payments", "/connections", "/policies", "/ledger"]) {
      await page.goto(given.url + path);
      await page.locator("main h1").first().waitFor();
      if (path === "/ledger") await page.locator(".badge.good").waitFor();
      if (path === "/approvals") await page.locator("[data-row]", { hasText: "rather long name" }).waitFor();
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(wide <= 0, name + " " + path + " is wider than the screen by " + wide);
      await picture(page, name + "-" + (path.split(/[/?]/)[1] || "overview"));
      await accessible(page, name + " " + path);
    }
    await page.goto(given.url + "/approvals");
    await page.locator("[data-row]", { hasText: "rather long name" }).click();
    await page.getByRole("button", { name: "Deny" }).waitFor();
    await picture(page, name + "-approval");
    await accessible(page, name + " an approval");
    await page.getByLabel("Reason").fill("no");
    await page.getByRole("button", { name: "Deny" }).click();
    await p.ended;
    assert.deepEqual(wrong, [], name);
    await context.close();
  }
});

step("sign out", async () => {
  const { page, context } = ana;
  await page.goto(given.url + "/");
  const cookie = (await context.cookies(given.url)).map((c) => c.name + "=" + c.value).join("; ");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByText("You are signed out").waitFor();
  const answer = await page.request.get(given.url + "/api/v1/whoami", { headers: { Cookie: cookie, "Sec-Fetch-Site": "same-origin" } });
  assert.equal(answer.status(), 401);
});

let failed = false;
console.log("");
for (const [name, act] of steps) {
  const begun = Date.now();
  try {
    await act();
    for (const p of [ana, bob, carol]) if (p) { assert.deepEqual(p.wrong, [], "errors in a page"); }
    console.log("ok " + name + " " + (Date.now() - begun) + "ms");
  } catch (e) {
    failed = true;
    console.log("FAIL " + name + "\n" + (e.stack || e) + "\nthe last client:\n" + clients.at(-1)?.());
    if (given.screenshots && ana) await ana.page.screenshot({ path: given.screenshots + "/failed.png" }).catch(() => {});
    break;
  }
}
await browser.close();
process.exit(failed ? 1 : 0);
