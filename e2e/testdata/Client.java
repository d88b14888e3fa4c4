import java.io.StringReader;
import java.io.StringWriter;
import java.sql.*;
import java.util.Arrays;
import java.util.Properties;
import java.util.Timer;
import java.util.TimerTask;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

/** What JDBC sees, printed: it must be the same directly and through the gateway. */
public class Client {
    static Connection connect(String... options) throws SQLException {
        Properties p = new Properties();
        p.setProperty("user", System.getenv("PGUSER"));
        p.setProperty("password", System.getenv("PGPASSWORD"));
        p.setProperty("sslmode", System.getenv("PGSSLMODE"));
        if (System.getenv("PGSSLROOTCERT") != null) p.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
        for (int i = 0; i < options.length; i += 2) p.setProperty(options[i], options[i + 1]);
        return DriverManager.getConnection("jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), p);
    }

    static void show(String name, Object value) {
        System.out.println(name + ": " + value);
    }

    interface Work { void run() throws Exception; }

    static void failing(String name, Work work) throws Exception {
        try {
            work.run();
            show(name, "no error");
        } catch (SQLException e) {
            show(name, e.getSQLState() + " " + e.getMessage().lines().findFirst().get());
        }
    }

    static String rows(ResultSet r) throws SQLException {
        StringBuilder b = new StringBuilder();
        int n = r.getMetaData().getColumnCount();
        while (r.next()) {
            for (int i = 1; i <= n; i++) b.append(r.getString(i)).append('|');
            b.append(' ');
        }
        return b.toString();
    }

    public static void main(String[] args) throws Exception {
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
            try (Connection c = connect("preferQueryMode", mode, "prepareThreshold", "2")) {
                show("mode", mode);
                try (Statement s = c.createStatement()) {
                    s.execute("DROP TABLE IF EXISTS j; CREATE TABLE j (id serial PRIMARY KEY, name text, at timestamptz, blob bytea)");
                    show("count", s.executeUpdate("INSERT INTO j (name) SELECT 'n' || g FROM generate_series(1, 2500) g"));
                    show("rows", rows(s.executeQuery("SELECT id, name FROM j WHERE id < 4 ORDER BY id")));
                    failing("division", () -> s.executeQuery("SELECT 1/0"));
                    failing("syntax", () -> s.executeQuery("SELEC 1"));
                    show("usable", rows(s.executeQuery("SELECT 1")));
                }
                try (PreparedStatement p = c.prepareStatement("SELECT name, ?::int + 1 FROM j WHERE id = ?")) {
                    for (int i = 1; i < 9; i++) {
                        p.setInt(1, i);
                        p.setInt(2, i);
                        show("prepared", rows(p.executeQuery()));
                    }
                }
                try (PreparedStatement p = c.prepareStatement("INSERT INTO j (name, at, blob) VALUES (?, ?, ?)", Statement.RETURN_GENERATED_KEYS)) {
                    for (int i = 0; i < 300; i++) {
                        p.setString(1, "batch " + i);
                        p.setTimestamp(2, i % 2 == 0 ? null : new Timestamp(i * 1000L));
                        // The driver sends no bytes in simple mode.
                        p.setBytes(3, mode.equals("simple") ? null : new byte[] {0, (byte) i});
                        p.addBatch();
                    }
                    show("batch", Arrays.stream(p.executeBatch()).sum());
                    ResultSet keys = p.getGeneratedKeys();
                    int n = 0;
                    while (keys.next()) n += keys.getInt(1) > 0 ? 1 : 0;
                    show("keys", n);
                }
                c.setAutoCommit(false);
                try (Statement s = c.createStatement()) {
                    s.setFetchSize(100);
                    long sum = 0;
                    ResultSet r = s.executeQuery("SELECT id FROM j ORDER BY id");
                    while (r.next()) sum += r.getLong(1);
                    show("fetched in portions", sum > 0);
                    Savepoint p = c.setSavepoint();
                    failing("in a transaction", () -> s.executeUpdate("INSERT INTO j (id) VALUES (1)"));
                    failing("in a failed one", () -> s.executeQuery("SELECT 1"));
                    c.rollback(p);
                    show("after the savepoint", rows(s.executeQuery("SELECT count(*) FROM j")));
                    c.rollback();
                }
                c.setAutoCommit(true);
                PGConnection pg = c.unwrap(PGConnection.class);
                show("copied in", pg.getCopyAPI().copyIn("COPY j (name) FROM STDIN", new StringReader("one\ntwo\nthree\n")));
                StringWriter out = new StringWriter();
                show("copied out", pg.getCopyAPI().copyOut("COPY (SELECT name FROM j WHERE name IN ('one', 'two', 'three') ORDER BY name) TO STDOUT", out));
                show("text", out.toString().replace('\n', ' '));
                try (Statement s = c.createStatement()) {
                    s.execute("LISTEN news");
                    s.execute("NOTIFY news, 'here'");
                    for (PGNotification n : pg.getNotifications(5000)) show("notified", n.getName() + " " + n.getParameter());
                    s.setQueryTimeout(1);
                    failing("timeout", () -> s.executeQuery("SELECT pg_sleep(60)"));
                    s.setQueryTimeout(0);
                    Timer t = new Timer(true);
                    t.schedule(new TimerTask() {
                        public void run() {
                            try { s.cancel(); } catch (SQLException e) { show("cancel", e); }
                        }
                    }, 500);
                    failing("cancelled", () -> s.executeQuery("SELECT pg_sleep(60)"));
                    show("usable", rows(s.executeQuery("SELECT 1")));
                    s.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$");
                    show("notice", s.getWarnings().getMessage());
                }
                ResultSet columns = c.getMetaData().getColumns(null, "public", "j", null);
                StringBuilder b = new StringBuilder();
                while (columns.next()) b.append(columns.getString("COLUMN_NAME")).append(' ').append(columns.getString("TYPE_NAME")).append(' ');
                show("columns", b);
                show("version", c.getMetaData().getDatabaseProductVersion());
            }
        }
    }
}
