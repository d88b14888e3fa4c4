// The gateway's API, asked as whoever signed in.

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

let token; // of the session: what changes anything carries it

async function failed(response) {
  let detail = "the gateway answers " + response.status;
  if ((response.headers.get("Content-Type") || "").startsWith("application/problem+json")) {
    const p = await response.json();
    detail = p.detail || p.title;
  }
  if (response.status === 401) document.dispatchEvent(new CustomEvent("signed-out"));
  return new Problem(response.status, detail);
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", redirect: "error", ...options });
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new Problem(0, "the gateway can't be reached; it may be starting anew");
  }
  if (!response.ok) throw await failed(response);
  return response;
}

function query(path, params) {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(params || {})) if (v !== undefined && v !== null && v !== "") q.set(k, v);
  const s = q.toString();
  return s ? path + "?" + s : path;
}

// get asks for JSON.
export const get = async (path, params, options) => (await ask(query("/api/v1" + path, params), options)).json();

// text asks for text, blob for bytes.
export const text = async (path, params) => (await ask(query("/api/v1" + path, params))).text();
export const bytes = async (path) => new Uint8Array(await (await ask("/api/v1" + path)).arrayBuffer());

// send changes something.
export async function send(method, path, body) {
  token ??= await (await ask("/signin/token")).text();
  const text = body !== undefined && typeof body !== "string";
  const response = await ask("/api/v1" + path, { method, headers: { "Custos-Token": token, "Content-Type": text ? "application/json" : "text/plain" },
    body: text ? JSON.stringify(body) : body });
  return response.json();
}
export const post = (path, body) => send("POST", path, body ?? {});

export async function signOut() {
  token ??= await (await ask("/signin/token")).text();
  await ask("/signout", { method: "POST", headers: { "Custos-Token": token } });
  token = undefined;
}

// lines reads a stream of JSON lines. One without its last line was cut off.
export async function lines(path, params, take, signal) {
  const response = await ask(query("/api/v1" + path, params), { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", end;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const p of parts) {
      const line = JSON.parse(p);
      if (line.end) end = line.end;
      else take(line);
    }
  }
  if (!end) throw new Problem(0, "the stream was cut off: what is shown is not all of it");
  if (end.error) throw new Problem(0, end.error);
  return end;
}

// follow tells of what is new: told gets "approvals" or "ledger", alive whether
// the line stands.
export function follow(told, alive) {
  let source, again;
  const open = () => {
    source = new EventSource("/api/v1/events");
    for (const kind of ["approvals", "ledger"]) source.addEventListener(kind, (e) => { alive(true); told(kind, Number(e.data)); });
    source.addEventListener("beat", () => alive(true));
    source.addEventListener("error", () => {
      alive(false);
      if (source.readyState === EventSource.CLOSED) again = setTimeout(open, 3000);
    });
  };
  open();
  return () => { clearTimeout(again); source.close(); };
}
