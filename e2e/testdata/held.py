"""A statement that is held is answered as if it had taken long; one that is
denied is an error, and the connection goes on. Each way that psycopg has."""
import psycopg

with psycopg.connect("", autocommit=True) as conn:
    for prepare in (False, True):
        print(conn.execute("UPDATE t SET n = n + %s WHERE id = 1", (1,), prepare=prepare).statusmessage, flush=True)
        try:
            conn.execute("DELETE FROM t WHERE id = %s", (2,), prepare=prepare)
            print("not denied", flush=True)
        except psycopg.Error as e:
            print(e.sqlstate, e.diag.message_primary, flush=True)
        print(conn.execute("SELECT count(*) FROM t").fetchone()[0], flush=True)
    with conn.pipeline():
        first = conn.execute("UPDATE t SET n = n + 1 WHERE id = 1")
        second = conn.execute("SELECT n FROM t WHERE id = 1")
    print(first.statusmessage, second.fetchone()[0], flush=True)
