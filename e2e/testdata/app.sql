-- What the corpus speaks of, with personal data that is made up.
CREATE TABLE users (
  id int PRIMARY KEY, name text, email text UNIQUE, ssn text, phone text, card_number text,
  role text, is_admin boolean, pw text, last_login timestamptz, created_at timestamptz DEFAULT now(), note text
);
INSERT INTO users (id, name, email, ssn, phone, card_number, role, pw, last_login)
SELECT i, 'Person ' || i, 'person' || i || '@mail.example', lpad((100 + i)::text, 3, '0') || '-' || lpad((20 + i)::text, 2, '0') || '-' || lpad((4000 + i)::text, 4, '0'),
  '+1 212 555 ' || lpad((2000 + i)::text, 4, '0'), '4' || lpad((111111111111110 + i * 37)::text, 15, '0'), 'member', 'x', now()
FROM generate_series(1, 40) i;
CREATE TABLE products (id int PRIMARY KEY, name text, price numeric);
INSERT INTO products SELECT i, 'Thing ' || i, i FROM generate_series(1, 20) i;
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, status text, total numeric, created_at timestamptz DEFAULT now());
INSERT INTO orders SELECT i, i, 'open', i * 10 FROM generate_series(1, 40) i;
CREATE INDEX idx_orders_created ON orders (created_at);
CREATE TABLE order_lines (order_id int, product_id int, qty int);
INSERT INTO order_lines SELECT i, 1, 2 FROM generate_series(1, 40) i;
CREATE TABLE notes (id serial PRIMARY KEY, user_id int UNIQUE, body text);
CREATE TABLE sessions (id int PRIMARY KEY, user_id int, data text);
INSERT INTO sessions SELECT i, i, 'x' FROM generate_series(1, 40) i;
CREATE TABLE imports (id int PRIMARY KEY, deleted_at timestamptz, updated_at timestamptz, truncated boolean);
CREATE TABLE archive (LIKE orders);
CREATE TABLE banned (user_id int);
CREATE TABLE staging_emails (user_id int, email text);
CREATE TABLE events (id bigserial PRIMARY KEY, kind text, payload jsonb, at timestamptz DEFAULT now());
CREATE TABLE audit_log (id bigserial PRIMARY KEY, who text, what text, at timestamptz DEFAULT now());
CREATE VIEW v AS SELECT id, name, email FROM users;
CREATE VIEW user_emails AS SELECT id, lower(email) AS address FROM users;
CREATE FUNCTION cleanup_old_users() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 0; END $$;
CREATE FUNCTION cleanup(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 0; END $$;
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE VIEW sleepy AS SELECT id, pg_sleep(0) IS NULL AS slept FROM orders;
CREATE VIEW cleaning AS SELECT cleanup(name) FROM products;
CREATE VIEW logins AS SELECT rolname, rolpassword FROM pg_authid;
