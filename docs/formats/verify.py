#!/usr/bin/env python3
"""Verify a custos ledger with its public key, and nothing else.

    verify.py LEDGER KEY [--trusted CHECKPOINT] [--recordings DIR]
              [--heartbeat SECONDS] [--witness KEY]... [--quorum N]

LEDGER is the folder that has log, tile and checkpoint in it; KEY a file with
the ledger's public key (ledger.pub). It prints {ok, entries, checkpoint,
uncovered, damage: [{entry, file, what}]} as JSON, and exits with 0, or with
5 if anything is not as it was written.

This is a second implementation of ledger.md, beside it, written from that
document: Python 3.8 or later, the standard library only. It is slow (some
thousands of entries a second) and reads one segment at a time into memory.
"""

import argparse
import base64
import datetime
import hashlib
import json
import os
import re
import struct
import sys

# --- Ed25519 (RFC 8032, section 5.1), verification only -------------------

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(a, b):
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    x, y, z, w = f - e, h - g, h + g, f + e
    return (x * y % P, z * w % P, y * z % P, x * w % P)


def multiply(n, point):
    total = (0, 1, 1, 0)
    while n:
        if n & 1:
            total = add(total, point)
        point, n = add(point, point), n >> 1
    return total


def decompress(b):
    y = int.from_bytes(b, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


BASE = decompress((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def ed25519_verify(key, message, signature):
    if len(key) != 32 or len(signature) != 64:
        return False
    a, r, s = decompress(key), decompress(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % Q
    left, right = multiply(s, BASE), add(r, multiply(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# --- Signed notes and checkpoints (section "Checkpoint") -------------------


class Key:
    """A verifier key: name+hash+base64(algorithm || key)."""

    def __init__(self, text):
        self.name, self.hash, encoded = text.strip().split("+", 2)
        raw = base64.b64decode(encoded, validate=True)
        self.algorithm, self.key = raw[0], raw[1:]
        want = hashlib.sha256(self.name.encode() + b"\n" + raw).digest()[:4].hex()
        if want != self.hash or self.algorithm not in (1, 4) or len(self.key) != 32:
            raise ValueError("not a public key: " + text)

    def verify(self, text, signature):
        if self.algorithm == 1:  # Ed25519, of the log
            return ed25519_verify(self.key, text, signature)
        if len(signature) != 72:  # cosignature/v1, of a witness
            return False
        head = b"cosignature/v1\ntime %d\n" % struct.unpack(">Q", signature[:8])
        return ed25519_verify(self.key, head + text, signature[8:])


class Checkpoint:
    def __init__(self, origin, size, root):
        self.origin, self.size, self.root = origin, size, root


def open_checkpoint(raw, log, witnesses=(), quorum=0):
    """Returns a checkpoint whose signatures hold, or raises ValueError."""
    text, empty, lines = raw.rpartition(b"\n\n")
    if not empty or not lines.endswith(b"\n"):
        raise ValueError("it is not a signed note")
    text += b"\n"
    signed, cosigned = None, set()
    for line in lines[:-1].split(b"\n"):
        match = re.fullmatch("\u2014 ([^ +]+) ([A-Za-z0-9+/]+=*)", line.decode())
        if not match:
            raise ValueError("a line of its signatures is malformed")
        signature = base64.b64decode(match[2])
        for key in [log, *witnesses]:
            if key.name != match[1] or key.hash != signature[:4].hex():
                continue
            if not key.verify(text, signature[4:]):
                raise ValueError("the signature of %s does not hold" % key.name)
            if key is log:
                signed = key
            else:
                cosigned.add(key.name)
    if signed is None:
        raise ValueError("the ledger's key did not sign it")
    fields = text.decode().split("\n")
    if len(fields) < 4 or fields[0] != log.name or not re.fullmatch("0|[1-9][0-9]*", fields[1]) or "" in fields[:-1]:
        raise ValueError("it is not a checkpoint of this ledger")
    root = base64.b64decode(fields[2], validate=True)
    if len(root) != 32:
        raise ValueError("its root is no SHA-256")
    if len(cosigned) < quorum:
        raise ValueError("%d of %d witnesses cosigned it" % (len(cosigned), quorum))
    return Checkpoint(fields[0], int(fields[1]), root)


# --- The Merkle tree (section "Tree") --------------------------------------


def leaf_hash(leaf):
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def perfect(hashes):
    while len(hashes) > 1:
        hashes = [node_hash(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]


class Tree:
    """The right edge of a tree; full tiles go to a function."""

    def __init__(self, on_tile=None):
        self.size, self.edge, self.on_tile = 0, [], on_tile

    def add(self, h):
        self.size += 1
        level = 0
        while True:
            if level == len(self.edge):
                self.edge.append([])
            self.edge[level].append(h)
            if len(self.edge[level]) < 256:
                return
            full, self.edge[level] = self.edge[level], []
            if self.on_tile:
                self.on_tile(level, (self.size >> 8 * (level + 1)) - 1, full)
            h, level = perfect(full), level + 1

    def root(self):
        if self.size == 0:
            return hashlib.sha256(b"").digest()
        h = None
        for hashes in self.edge:
            end = len(hashes)
            while end:
                width = end & -end
                part = perfect(hashes[end - width:end])
                h = part if h is None else node_hash(part, h)
                end -= width
        return h


def tile_path(level, number, width):
    parts = ["%03d" % (number % 1000)]
    while number >= 1000:
        number //= 1000
        parts.insert(0, "x%03d" % (number % 1000))
    path = "tile/%s/%s" % (level, "/".join(parts))
    return path if width == 256 else "%s.p/%d" % (path, width)


# --- Segments (section "Segments") -----------------------------------------

HEADER, HEAD = 512, 28
TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    TABLE.append(n)


def crc32c(b):
    c = 0xFFFFFFFF
    for x in b:
        c = TABLE[(c ^ x) & 0xFF] ^ c >> 8
    return c ^ 0xFFFFFFFF


def frame(b, at):
    """Returns (index, durable, leaf, attachment, end), None at the end of the
    entries, or raises ValueError."""
    head = b[at:at + HEAD]
    if not any(head):
        return None
    if len(head) < HEAD:
        raise ValueError("its head is cut off")
    index, durable, leaf, attachment, crc = struct.unpack("<QQIII", head)
    if not 0 < leaf <= 60 << 10 or attachment > 16 << 20:
        raise ValueError("the lengths in its head can't be")
    end = at + HEAD + leaf + attachment
    if end > len(b):
        raise ValueError("it is cut off")
    if crc32c(head[:24] + b[at + HEAD:end]) != crc:
        raise ValueError("its checksum is wrong")
    return index, durable, b[at + HEAD:at + HEAD + leaf], b[at + HEAD + leaf:end], end


def resync(b, at, low, high):
    """Finds the next whole frame whose index is in a range."""
    for i in range(at, len(b) - HEAD + 1):
        if low <= struct.unpack_from("<Q", b, i)[0] < high:
            try:
                found = frame(b, i)
            except ValueError:
                continue
            if found:
                return found
    return None


# --- Verification (section "Verification") ---------------------------------

BEGAN = ("gateway.started", "gateway.recovered", "config.loaded")
AFTER_CLOSE = ("session.turned-away", "recording.erased", "recording.held", "recording.freed", "recording.viewed", "approval.requested", "approval.answered", "approval.ended", "approval.notified")
SLACK = 300.0  # seconds


def seconds(text):
    match = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?Z", text)
    if not match:
        raise ValueError("no time")
    whole = datetime.datetime(*map(int, match.groups()[:6]), tzinfo=datetime.timezone.utc)
    return whole.timestamp() + float(match[7] or 0)


class Verifier:
    def __init__(self, options):
        self.o = options
        self.damage, self.entries, self.uncovered = [], 0, 0
        self.bad = False  # an entry is missing or not whole
        self.leaves, self.tiled = Tree(), Tree(self.compare)
        self.root, self.altered = None, []
        self.tile, self.bundle = None, None
        self.open, self.placeholders = {}, set()
        self.latest, self.stopped, self.first_uncovered, self.told = None, False, None, False
        self.cited, self.erased = [], set()

    def found(self, entry, file, what):
        self.damage.append({"entry": entry, "file": file, "what": what})

    def read(self, path):
        try:
            with open(os.path.join(self.o.ledger, path), "rb") as f:
                return f.read()
        except FileNotFoundError:
            return None

    def run(self):
        self.heads()
        logs = os.path.join(self.o.ledger, "log")
        names = sorted(n for n in os.listdir(logs) if re.fullmatch(r"\d{20}\.wal", n))
        firsts = [int(n[:20]) for n in names] + [2**64]
        index = 0
        for n, name in enumerate(names):
            index = self.segment(name, firsts[n], firsts[n + 1], index, n == len(names) - 1)
        self.entries = index
        self.finish("log/" + names[-1] if names else "log")
        self.damage.sort(key=lambda d: d["entry"])

    def heads(self):
        found = []
        for name, quorum in ("checkpoint", self.o.quorum), ("checkpoint.pending", 0):
            raw = self.read(name)
            if raw is None:
                continue
            try:
                found.append(open_checkpoint(raw, self.o.key, self.o.witness, quorum))
            except ValueError as e:
                self.found(0, name, "it does not hold: %s" % e)
        if not found:
            self.found(0, "checkpoint", "there is no valid checkpoint")
            self.told = True
        elif self.o.quorum and self.read("checkpoint") is None:
            self.found(found[0].size, "checkpoint", "no checkpoint has %d cosignatures" % self.o.quorum)
        self.head = max(found, key=lambda c: c.size, default=Checkpoint(self.o.key.name, 0, b""))
        self.earlier = [(c, "an earlier checkpoint") for c in found if c is not self.head]
        if self.o.trusted:
            with open(self.o.trusted, "rb") as f:
                self.earlier.append((open_checkpoint(f.read(), self.o.key), "the trusted checkpoint"))

    def segment(self, name, first, until, index, last):
        file = "log/" + name
        b = self.read(file)
        if first > index:
            self.missing(index, first, file)
            index = first
        origin = self.o.key.name.encode()
        header = struct.pack("<16sQI", b"custos ledger 1\n", first, len(origin)) + origin
        header = header.ljust(HEADER - 4, b"\0")
        if b[:HEADER] != header + struct.pack("<I", crc32c(header)):
            self.found(index, file, "its header is not that of this segment of this ledger")
        at = HEADER
        while index < until:
            try:
                f, why = frame(b, at), "no frame follows"
            except ValueError as e:
                f, why = None, str(e)
            if f is None:
                covered = index < self.head.size
                if why == "no frame follows" and not covered:
                    break
                later = resync(b, at, index + 1, min(until, index + (1 << 36)))
                if last and not covered and not (later and later[1] > index):
                    break  # a torn tail: it was never durable
                self.bad = True
                self.skip(index + 1)
                self.found(index, file, "entry %d is not whole: %s, at byte %d" % (index, why, at))
                if later is None:
                    break
                self.missing(index + 1, later[0], file)
                f, index = later, later[0]
            elif f[0] < index or f[0] >= until:
                self.bad = True
                self.found(min(f[0], index), file, "at byte %d is entry %d, where entry %d should be" % (at, f[0], index))
                at = f[4]
                continue
            elif f[0] > index:
                self.missing(index, f[0], file)
                index = f[0]
            at = f[4]
            self.entry(index, f[2], f[3], file)
            index += 1
        if any(b[at:]) and index < self.head.size and not (self.damage and self.damage[-1]["file"] == file):
            self.found(index, file, "from byte %d on there are bytes that belong to no entry" % at)
        if not last and index < until:
            self.missing(index, until, file)
            index = until
        return index

    def missing(self, start, end, file):
        if start < end:
            self.bad = True
            self.skip(end)
            self.found(start, file, "entries %d to %d are missing" % (start, end - 1))

    # The tree.

    def enter(self, index):
        if index % 256:
            return
        number, width = index // 256, min(256, self.head.size - index // 256 * 256)
        self.tile, self.bundle = None, None
        raw, path, had = self.fetch(0, number, width)
        if raw is None or len(raw) != had * 32:
            self.found(index, path, "the tile is missing, or has another size")
        else:
            self.tile = [raw[i:i + 32] for i in range(0, width * 32, 32)]
        raw, path, had = self.fetch("entries", number, width)
        leaves, at = [], 0
        while raw is not None and at + 2 <= len(raw):
            size = struct.unpack_from(">H", raw, at)[0]
            leaves.append(raw[at + 2:at + 2 + size])
            at += 2 + size
        if raw is None or len(leaves) != had or at != len(raw):
            self.found(index, path, "the bundle is missing, or has other entries")
        else:
            self.bundle = leaves

    def fetch(self, level, number, width):
        path = tile_path(level, number, width)
        raw = self.read(path)
        if raw is None and width < 256:
            full = self.read(tile_path(level, number, 256))
            if full is not None:
                return full, path, 256
        return raw, path, width

    def compare(self, level, number, want):
        if level == 0:
            return
        raw, path, had = self.fetch(level, number, len(want))
        first = number << 8 * (level + 1)
        if raw is None or len(raw) != had * 32:
            self.found(first, path, "the tile is missing, or has another size")
            return
        for i, h in enumerate(want):
            if raw[i * 32:i * 32 + 32] != h:
                self.found(first + (i << 8 * level), path, "its hash %d is not that of the tile below" % i)
                return

    def grow(self, h):
        self.tiled.add(h)
        if self.tiled.size == self.head.size:
            for level, hashes in enumerate(self.tiled.edge):
                if hashes:
                    self.compare(level, self.tiled.size >> 8 * (level + 1), list(hashes))

    def skip(self, to):
        for index in range(self.leaves.size, to):
            h = bytes(32)
            if index < self.head.size:
                self.enter(index)
                if self.tile:
                    h = self.tile[index % 256]
                self.grow(h)
            self.leaves.add(h)

    def in_tree(self, index, leaf, file):
        h = leaf_hash(leaf)
        if index < self.head.size:
            self.enter(index)
            tiled = self.tile[index % 256] if self.tile else h
            if tiled != h:
                self.altered.append((index, file))
            if self.bundle and self.bundle[index % 256] != leaf and leaf_hash(self.bundle[index % 256]) != tiled:
                number = index // 256
                self.found(index, tile_path("entries", number, min(256, self.head.size - number * 256)),
                           "entry %d of the bundle is not the one of its tile" % index)
            self.grow(tiled)
        self.leaves.add(h)
        if self.leaves.size == self.head.size:
            self.root = self.leaves.root()

    # What entries say.

    def entry(self, index, leaf, attachment, file):
        self.check_earlier()
        self.in_tree(index, leaf, file)
        try:
            e = json.loads(leaf.decode())
            kind, at = e["kind"], seconds(e["at"])
        except (ValueError, KeyError, TypeError):
            self.found(index, file, "its leaf is not an entry")
            return
        cited = e.get("attachment")
        if cited is None and attachment:
            self.found(index, file, "entry %d has an attachment that it does not cite" % index)
        elif cited and (cited.get("bytes") != len(attachment) or cited.get("sha256") != hashlib.sha256(attachment).hexdigest()):
            self.found(index, file, "the attachment of entry %d was altered" % index)
        self.time(index, kind, at, file)
        if e.get("session") and not self.bad:
            self.session(index, kind, e, file)
        if kind == "gateway.recovered":
            self.placeholders.add(index)
        elif kind == "recording.erased":
            self.erased.add(e.get("session"))

    def time(self, index, kind, at, file):
        gap = at - self.latest if self.latest is not None else 0.0
        if gap < -SLACK:
            self.found(index, file, "the time of entry %d is %d s before that of an earlier one" % (index, -gap))
        elif self.o.heartbeat > 0 and gap > self.o.heartbeat + SLACK and not self.stopped and kind not in BEGAN:
            self.found(index, file, "the ledger was silent for %d s before entry %d" % (gap, index))
        self.latest = at if self.latest is None else max(self.latest, at)
        self.stopped = kind == "gateway.stopped"
        if index >= self.head.size:
            self.first_uncovered = at if self.first_uncovered is None else self.first_uncovered
            if at - self.first_uncovered > 60 and not self.told:
                self.told = True
                self.found(self.head.size, "checkpoint", "no checkpoint covers the entries from %d on" % self.head.size)

    def session(self, index, kind, e, file):
        name = e["session"]
        if kind in AFTER_CLOSE:
            return
        if kind == "session.opened":
            if name in self.open:
                self.found(index, file, "session %s is opened again while it is open" % name)
            self.open[name] = set()
            return
        operations = self.open.get(name)
        if operations is None:
            self.found(index, file, "entry %d is of session %s, which is not open there" % (index, name))
            return
        about = {"operation.settled": "settled", "operation.input": "input", "operation.released": "released"}.get(kind)
        if kind == "session.closed":
            del self.open[name]
        elif kind == "operation.submitted":
            operations.add(index)
        elif about:
            operation = (e.get(about) or {}).get("operation")
            if operation not in operations and operation not in self.placeholders:
                self.found(index, file, "entry %d is about entry %s, which is no operation of that session without an outcome" % (index, operation))
            if about == "settled":
                operations.discard(operation)
                if (e.get("settled") or {}).get("recording"):
                    self.cited.append((index, name, operation, e["settled"]["recording"]))

    def check_earlier(self):
        for c, name in list(self.earlier):
            if c.size == self.leaves.size:
                self.earlier.remove((c, name))
                if not self.bad and self.leaves.root() != c.root:
                    self.found(0, "checkpoint", "these are not the first %d entries that %s is about: a fork" % (c.size, name))

    def finish(self, last):
        self.check_earlier()
        for c, name in self.earlier:
            if name == "the trusted checkpoint":
                self.found(self.entries, "checkpoint", "%s covers %d entries, and there are %d: rolled back" % (name, c.size, self.entries))
        size = self.head.size
        if size > self.entries:
            self.bad = True
            self.found(self.entries, last, "the checkpoint covers %d entries: the end is missing" % size)
        else:
            self.uncovered = self.entries - size
        for index in range(self.leaves.size, size):
            self.enter(index)
            if not self.tile:
                break
            self.grow(self.tile[index % 256])
        if size:
            self.blame(size)
        if self.o.recordings:
            self.recordings()

    def blame(self, size):
        leaves_hold = not self.bad and self.root == self.head.root
        for index, file in self.altered:
            number = index // 256
            where = tile_path(0, number, min(256, size - number * 256)) if leaves_hold else file
            self.found(index, where, "entry %d is not the one under the checkpoint" % index)
        if not leaves_hold and not self.bad and not self.altered:
            self.found(0, "checkpoint", "the checkpoint is not about these entries")

    def recordings(self):
        for index, session, operation, cited in self.cited:
            if session in self.erased:
                continue
            path = os.path.join(session[:2], "%s.%d.rec" % (session, operation))
            digest, size = hashlib.sha256(), 0
            try:
                with open(os.path.join(self.o.recordings, path), "rb") as f:
                    for chunk in iter(lambda: f.read(1 << 20), b""):
                        digest.update(chunk)
                        size += len(chunk)
            except OSError:
                self.found(index, "recordings/" + path, "the recording is missing, and no entry says that it was erased")
                continue
            if digest.hexdigest() != cited.get("sha256") or size != cited.get("bytes"):
                self.found(index, "recordings/" + path, "the recording is not the one that the entry cites")


def key_file(path):
    with open(path) as f:
        return Key(f.read())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("ledger")
    p.add_argument("key", type=key_file)
    p.add_argument("--trusted", metavar="CHECKPOINT")
    p.add_argument("--recordings", metavar="DIR")
    p.add_argument("--heartbeat", type=float, default=3600, metavar="SECONDS")
    p.add_argument("--witness", type=key_file, action="append", default=[], metavar="KEY")
    p.add_argument("--quorum", type=int, default=0, metavar="N")
    v = Verifier(p.parse_args())
    try:
        v.run()
    except (OSError, ValueError) as e:
        print("verify ledger %s: %s" % (v.o.ledger, e), file=sys.stderr)
        return 1
    head = {"origin": v.head.origin, "size": v.head.size, "root": base64.b64encode(v.head.root).decode()}
    print(json.dumps({"ok": not v.damage, "entries": v.entries, "checkpoint": head, "uncovered": v.uncovered,
                      "damage": v.damage[:1000]}, indent=2))
    return 5 if v.damage else 0


if __name__ == "__main__":
    sys.exit(main())
