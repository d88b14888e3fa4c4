// The ledger's own checks, made here: a checkpoint's signature (C2SP
// signed-note, Ed25519), that an entry is under it (RFC 6962, section 2.1.1),
// and that it goes on from one that was seen before (section 2.1.2). The
// gateway is asked for hashes and believed nothing of what they come to.

const utf8 = new TextEncoder();

export const unbase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
export const hex = (b) => [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
export const same = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);

const sha256 = async (...parts) => {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) { all.set(p, at); at += p.length; }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all));
};

export const leafHash = (leaf) => sha256(new Uint8Array([0]), leaf);
export const nodeHash = (left, right) => sha256(new Uint8Array([1]), left, right);

// Damage is that a check failed: what it says is not so.
export class Damage extends Error {}

// publicKey reads a verifier key: name+hash+base64(algorithm || key).
export async function publicKey(text) {
  const [, name, hash, rest] = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(text.trim()) || [];
  if (!name) throw new Damage("the public key is not one");
  const bytes = unbase64(rest);
  const id = (await sha256(utf8.encode(name + "\n"), bytes)).slice(0, 4);
  if (bytes[0] !== 1 || bytes.length !== 33 || hex(id) !== hash) throw new Damage("the public key is not one of Ed25519, or not its own name's");
  return { name, id, key: await crypto.subtle.importKey("raw", bytes.slice(1), { name: "Ed25519" }, false, ["verify"]) };
}

// checkpoint reads a signed checkpoint, and checks that the key signed it.
export async function checkpoint(text, key) {
  const split = text.indexOf("\n\n");
  if (split < 0) throw new Damage("the checkpoint is not a signed note");
  const body = text.slice(0, split + 1);
  const [origin, size, root] = body.split("\n");
  if (origin !== key.name) throw new Damage("the checkpoint is of another ledger: " + origin);
  if (!/^(0|[1-9][0-9]*)$/.test(size) || Number(size) > Number.MAX_SAFE_INTEGER) throw new Damage("the checkpoint has no size");
  let signed = false;
  const cosigned = [];
  for (const l of text.slice(split + 2).split("\n").filter(Boolean)) {
    const [, name, sig] = /^\u2014 (\S+) (\S+)$/.exec(l) || [];
    if (!name) throw new Damage("the checkpoint has a line that is no signature");
    const bytes = unbase64(sig);
    if (name === key.name && same(bytes.slice(0, 4), key.id)) signed ||= await crypto.subtle.verify("Ed25519", key.key, bytes.slice(4), utf8.encode(body));
    else cosigned.push({ name, id: bytes.slice(0, 4), sig: bytes.slice(4) });
  }
  if (!signed) throw new Damage("the checkpoint is not signed by the ledger's key");
  return { origin, size: Number(size), root: unbase64(root), rootText: root, body, text, cosigned };
}

// cosigned checks a witness's line (C2SP tlog-cosignature), and says when it
// signed; undefined: it did not.
export async function cosignedAt(c, text) {
  const [, name, hash, rest] = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(text.trim()) || [];
  const bytes = unbase64(rest || "");
  if (bytes[0] !== 4 || bytes.length !== 33) return undefined;
  const key = await crypto.subtle.importKey("raw", bytes.slice(1), { name: "Ed25519" }, false, ["verify"]);
  for (const s of c.cosigned) {
    if (s.name !== name || hex(s.id) !== hash || s.sig.length !== 72) continue;
    const time = new DataView(s.sig.buffer, s.sig.byteOffset, 8).getBigUint64(0);
    if (await crypto.subtle.verify("Ed25519", key, s.sig.slice(8), utf8.encode("cosignature/v1\ntime " + time + "\n" + c.body))) return new Date(Number(time) * 1000);
  }
  return undefined;
}

// inclusion reads a proof (C2SP tlog-proof), and checks that the leaf is where
// it says under the checkpoint that it holds.
export async function inclusion(text, leaf, key) {
  const split = text.indexOf("\n\n");
  const head = text.slice(0, split).split("\n");
  const at = head.findIndex((l) => l.startsWith("index "));
  if (split < 0 || !head[0].startsWith("c2sp.org/tlog-proof@") || at < 0) throw new Damage("the proof is not one");
  const index = Number(head[at].slice(6));
  const c = await checkpoint(text.slice(split + 2), key);
  let hash = await leafHash(utf8.encode(leaf));
  let n = index, last = c.size - 1;
  if (!(index < c.size)) throw new Damage("the entry is not under the checkpoint");
  for (const l of head.slice(at + 1).filter(Boolean)) { // RFC 9162, section 2.1.3.2
    const p = unbase64(l);
    if (last === 0) throw new Damage("the proof is too long");
    if (n % 2 === 1 || n === last) {
      hash = await nodeHash(p, hash);
      if (n % 2 === 0) while (n % 2 === 0 && n !== 0) { n /= 2; last = Math.floor(last / 2); }
    } else hash = await nodeHash(hash, p);
    n = Math.floor(n / 2);
    last = Math.floor(last / 2);
  }
  if (last !== 0 || !same(hash, c.root)) throw new Damage("the proof does not lead to the checkpoint's root: the entry, or the ledger, is not what it was");
  return { index, checkpoint: c };
}

// split is the largest power of two below n.
function split(n) {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}

// subtree is the hash of entries [from, to), where node gives the hash of a
// whole subtree: its level and its number there.
async function subtree(from, to, node) {
  const n = to - from;
  const level = Math.log2(n);
  if (Number.isInteger(level) && from % n === 0) return node(level, from / n);
  const k = split(n);
  return nodeHash(await subtree(from, from + k, node), await subtree(from + k, to, node));
}

// consistency checks that the tree of size after is one of size before with
// more entries behind it: from the same nodes, both roots must come (RFC 6962,
// section 2.1.2).
export async function consistency(before, after, node) {
  if (before.size > after.size) throw new Damage("the ledger has fewer entries than this browser saw before: " + before.size + " were, " + after.size + " are");
  const asked = new Map();
  const once = (level, n) => {
    const key = level + "/" + n;
    if (!asked.has(key)) asked.set(key, node(level, n));
    return asked.get(key);
  };
  // The nodes of the old root are those of the new one, or lie under them: each
  // is taken from the tiles once, and what it is made of is checked on the way.
  if (before.size > 0 && !same(await subtree(0, before.size, once), before.root)) throw new Damage("what was on record is not what this browser saw before: the past was changed");
  if (after.size > 0 && !same(await over(0, after.size, before.size, once), after.root)) throw new Damage("the checkpoint does not go on from the one that this browser saw before");
}

// over is the hash of entries [from, to), made of the nodes that the tree of
// size before is made of, wherever it reaches.
async function over(from, to, before, node) {
  const n = to - from;
  const level = Math.log2(n);
  const aligned = Number.isInteger(level) && from % n === 0;
  if (aligned && (to <= before || from >= before)) return node(level, from / n);
  const k = aligned ? n / 2 : split(n);
  return nodeHash(await over(from, from + k, before, node), await over(from + k, to, before, node));
}

// tiles gives nodes of a tree of a size from its tiles (C2SP tlog-tiles), which
// fetch gets by their paths.
export function tiles(size, fetch) {
  const got = new Map();
  const tile = (level, n) => {
    const width = Math.min(256, Math.floor(size / 256 ** level) - n * 256);
    let path = String(n % 1000).padStart(3, "0");
    for (let rest = Math.floor(n / 1000); rest > 0; rest = Math.floor(rest / 1000)) path = "x" + String(rest % 1000).padStart(3, "0") + "/" + path;
    path = level + "/" + path + (width < 256 ? ".p/" + width : "");
    if (!got.has(path)) got.set(path, fetch(path));
    return got.get(path);
  };
  const node = async (level, n) => {
    const row = Math.floor(level / 8), up = level % 8;
    if (up === 0) {
      const b = await tile(row, Math.floor(n / 256));
      return b.slice((n % 256) * 32, (n % 256) * 32 + 32);
    }
    return nodeHash(await node(level - 1, 2 * n), await node(level - 1, 2 * n + 1));
  };
  return node;
}
