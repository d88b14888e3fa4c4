import java.sql.*;

/** What held.py does, by JDBC: as simple, prepared and batched statements. */
public class Held {
    public static void main(String[] args) throws Exception {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE")
            + "?sslmode=verify-full&sslrootcert=" + System.getenv("PGSSLROOTCERT");
        try (Connection conn = DriverManager.getConnection(url, System.getenv("PGUSER"), System.getenv("PGPASSWORD"))) {
            for (int threshold : new int[] {5, 1}) {
                try (PreparedStatement update = conn.prepareStatement("UPDATE t SET n = n + ? WHERE id = 1");
                     PreparedStatement delete = conn.prepareStatement("DELETE FROM t WHERE id = ?")) {
                    update.unwrap(org.postgresql.PGStatement.class).setPrepareThreshold(threshold);
                    update.setInt(1, 1);
                    System.out.println("UPDATE " + update.executeUpdate());
                    delete.setInt(1, 2);
                    try {
                        delete.executeUpdate();
                        System.out.println("not denied");
                    } catch (SQLException e) {
                        System.out.println(e.getSQLState() + " " + ((org.postgresql.util.PSQLException) e).getServerErrorMessage().getMessage());
                    }
                }
                try (Statement st = conn.createStatement(); ResultSet r = st.executeQuery("SELECT count(*) FROM t")) {
                    r.next();
                    System.out.println(r.getInt(1));
                }
            }
            try (Statement st = conn.createStatement()) {
                st.addBatch("UPDATE t SET n = n + 1 WHERE id = 1");
                System.out.println("UPDATE " + st.executeBatch()[0]);
            }
            try (Statement st = conn.createStatement(); ResultSet r = st.executeQuery("SELECT n FROM t WHERE id = 1")) {
                r.next();
                System.out.println(r.getInt(1));
            }
        }
    }
}
