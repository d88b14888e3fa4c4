# What psycopg 3 sees, printed: it must be the same directly and through the
# gateway. Where to connect comes from the environment.
import asyncio
import threading
import time

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb


def show(name, value):
    print(f"{name}: {value!r}")


def notify():
    with psycopg.connect(autocommit=True) as other:
        other.execute("NOTIFY news, 'from elsewhere'")


def failing(name, run):
    try:
        run()
        show(name, "no error")
    except psycopg.Error as e:
        show(name, (type(e).__name__, e.sqlstate, e.diag.message_primary, e.diag.statement_position))


with psycopg.connect(autocommit=True) as conn:
    conn.execute("DROP TABLE IF EXISTS t")
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, name text, data jsonb, blob bytea, tags text[], at timestamptz)")
    show("encoding", conn.info.encoding)
    show("parameters", [conn.info.parameter_status(p) for p in ("server_version", "client_encoding", "integer_datetimes", "TimeZone")])

    cur = conn.cursor()
    cur.executemany(
        "INSERT INTO t VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
        [(i, f"näme {i}", Jsonb({"n": i}), bytes([0, i, 255]), ["a", None, 'q"'], "2026-01-01T00:00:00Z") for i in range(50)],
        returning=True,
    )
    ids = []
    while True:
        ids.append(cur.fetchone()[0])
        if not cur.nextset():
            break
    show("executemany", ids)
    for binary in (False, True):
        cur = conn.cursor(binary=binary, row_factory=dict_row)
        show(f"select binary={binary}", cur.execute("SELECT * FROM t WHERE id < %s ORDER BY id", [3]).fetchall())
        show("description", [(c.name, c.type_code, c.internal_size) for c in cur.description])
        show("empty", cur.execute("SELECT * FROM t WHERE false").fetchall())
    for prepare in (True, False):
        for i in range(8):
            show("prepared", conn.execute("SELECT name FROM t WHERE id = %s", [i], prepare=prepare).fetchone())
    show("nulls", conn.execute("SELECT NULL::int, NULL::text, %s::int", [None]).fetchone())
    show("several statements", conn.execute("SELECT 1; SELECT 2, 3; SELECT").nextset())
    show("nothing", conn.execute("").statusmessage)
    show("large", len(conn.execute("SELECT repeat('x', 3000000)").fetchone()[0]))
    show("many rows", sum(r[0] for r in conn.execute("SELECT generate_series(1, 200000)")))

    failing("syntax", lambda: conn.execute("SELEC 1"))
    failing("division", lambda: conn.execute("SELECT 1/0"))
    failing("unique", lambda: conn.execute("INSERT INTO t (id) VALUES (1)"))
    failing("no table", lambda: conn.execute("SELECT * FROM nowhere"))
    failing("type", lambda: conn.execute("SELECT %s::int", ["x"]))
    show("usable", conn.execute("SELECT 1").fetchone())

    notices = []
    conn.add_notice_handler(lambda d: notices.append((d.severity, d.sqlstate, d.message_primary)))
    conn.execute("DO $$ BEGIN RAISE NOTICE 'hello'; RAISE WARNING 'careful'; END $$")
    show("notices", notices)

    with conn.cursor().copy("COPY t (id, name) FROM STDIN") as copy:
        for i in range(1000, 3000):
            copy.write_row((i, f"copied\t{i}"))
    with conn.cursor().copy("COPY (SELECT id, name FROM t WHERE id >= 1000 ORDER BY id) TO STDOUT") as copy:
        rows = list(copy.rows())
    show("copy", (len(rows), rows[0], rows[-1]))
    with conn.cursor().copy("COPY (SELECT id, blob FROM t WHERE id < 10 ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
        show("copy binary", b"".join(bytes(b) for b in copy))

    def bad_copy():
        with conn.cursor().copy("COPY t (id, name) FROM STDIN") as copy:
            copy.write_row((1, "again"))

    failing("copy that fails", bad_copy)

    def broken_copy():
        with conn.cursor().copy("COPY t (id, name) FROM STDIN") as copy:
            copy.write_row((5000, "x"))
            raise psycopg.DataError("given up")

    failing("copy given up", broken_copy)
    show("rows", conn.execute("SELECT count(*) FROM t").fetchone())

    with conn.pipeline():
        a = conn.execute("SELECT 1")
        b = conn.execute("SELECT %s::text", ["two"])
        c = conn.execute("SELECT generate_series(1, 3)")
    show("pipeline", (a.fetchall(), b.fetchall(), c.fetchall()))

    def bad_pipeline():
        with conn.pipeline() as p:
            conn.execute("INSERT INTO t (id) VALUES (9000)")
            conn.execute("SELECT 1/0")
            conn.execute("INSERT INTO t (id) VALUES (9001)")
            p.sync()

    failing("pipeline that fails", bad_pipeline)
    show("undone", conn.execute("SELECT count(*) FROM t WHERE id >= 9000").fetchone())

    heard = []
    conn.add_notify_handler(lambda n: heard.append((n.channel, n.payload)))
    conn.execute("LISTEN news")
    conn.execute(sql.SQL("NOTIFY news, {}").format(sql.Literal("it's here")))
    conn.execute("SELECT 1")
    show("notify", heard)
    # One that comes while nothing is asked.
    threading.Timer(0.3, notify).start()
    for n in conn.notifies():
        show("notify", (n.channel, n.payload))
        break

with psycopg.connect() as conn:
    conn.execute("INSERT INTO t (id) VALUES (7000)")
    show("status", conn.info.transaction_status)
    try:
        with conn.transaction():
            conn.execute("INSERT INTO t (id) VALUES (7001)")
            conn.execute("SELECT 1/0")
    except psycopg.Error as e:
        show("savepoint", e.sqlstate)
    show("status", conn.info.transaction_status)
    failing("error", lambda: conn.execute("SELECT 1/0"))
    show("status", conn.info.transaction_status)
    failing("in a failed transaction", lambda: conn.execute("SELECT 1"))
    conn.rollback()
    show("rolled back", conn.execute("SELECT count(*) FROM t WHERE id >= 7000").fetchone())
    cur = conn.cursor("named")
    cur.itersize = 700
    cur.execute("SELECT generate_series(1, 5000)")
    show("server-side cursor", (cur.fetchone(), len(cur.fetchmany(10)), sum(r[0] for r in cur)))
    cur.close()
    conn.rollback()

    def cancel():
        time.sleep(0.5)
        conn.cancel()

    threading.Thread(target=cancel).start()
    failing("cancel", lambda: conn.execute("SELECT pg_sleep(60)"))
    conn.rollback()
    show("after cancel", conn.execute("SELECT 1").fetchone())


async def concurrently():
    async def one(n):
        async with await psycopg.AsyncConnection.connect() as conn:
            return (await (await conn.execute("SELECT %s::int * 2", [n])).fetchone())[0]

    return await asyncio.gather(*(one(n) for n in range(8)))


show("async", asyncio.run(concurrently()))
