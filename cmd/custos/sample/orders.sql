-- The demonstration's database: a made-up shop. Every person, address and
-- number is generated; the e-mail domain and the telephone range are reserved
-- for fiction (RFC 2606; 555-01xx), and the card numbers are test numbers.
BEGIN;

CREATE TABLE products (
    id      integer PRIMARY KEY,
    name    text NOT NULL,
    cents   integer NOT NULL CHECK (cents > 0)
);
CREATE TABLE customers (
    id      integer PRIMARY KEY,
    name    text NOT NULL,
    email   text NOT NULL UNIQUE,
    phone   text NOT NULL,
    born    date NOT NULL,
    city    text NOT NULL,
    notes   jsonb NOT NULL DEFAULT '{}'
);
CREATE TABLE orders (
    id          integer PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customers,
    placed_at   timestamptz NOT NULL,
    status      text NOT NULL CHECK (status IN ('new', 'paid', 'shipped', 'returned'))
);
CREATE TABLE order_lines (
    order_id    integer NOT NULL REFERENCES orders,
    line        smallint NOT NULL,
    product_id  integer NOT NULL REFERENCES products,
    quantity    smallint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, line)
);
CREATE TABLE payments (
    id          integer PRIMARY KEY,
    order_id    integer NOT NULL REFERENCES orders,
    card        text NOT NULL,
    cents       integer NOT NULL,
    paid_at     timestamptz NOT NULL
);
COMMENT ON COLUMN customers.email IS 'tags: pii';
COMMENT ON COLUMN customers.phone IS 'tags: pii';
COMMENT ON COLUMN customers.born IS 'tags: pii';
COMMENT ON COLUMN payments.card IS 'tags: pii';

-- pick(n, salt, list) chooses from a list, the same every time.
CREATE FUNCTION pick(n integer, salt text, list text[]) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT list[1 + abs(hashtext(salt || n)::bigint) % cardinality(list)] $$;

INSERT INTO products
SELECT n,
       pick(n, 'colour', '{red,blue,green,grey,yellow,white,black}') || ' ' ||
       pick(n, 'thing', '{kettle,lamp,chair,scarf,notebook,teapot,clock,basket}') || ' no. ' || n,
       200 + abs(hashtext('price' || n)::bigint)::integer % 20000
FROM generate_series(1, 500) n;

INSERT INTO customers
SELECT n, first || ' ' || last, lower(first) || '.' || lower(last) || n || '@example.com',
       '+1 202 555 01' || lpad((n % 100)::text, 2, '0'),
       date '1950-01-01' + (abs(hashtext('born' || n)::bigint) % 18000)::integer,
       pick(n, 'city', '{Aarhus,Braga,Cork,Dijon,Essen,Ghent,Lodz,Malaga,Oulu,Pécs,Turin,Utrecht}'),
       jsonb_build_object('newsletter', n % 3 = 0, 'loyalty', n % 7)
FROM generate_series(1, 20000) n,
     LATERAL (SELECT pick(n, 'first', '{Ada,Ben,Chidi,Dora,Emil,Farah,Goran,Hana,Ines,Jonas,Keiko,Liam,Mila,Nuno,Olga,Priya,Rosa,Sven,Tariq,Uma,Vera,Wim,Yara,Zoe}') AS first,
                     pick(n, 'last', '{Abara,Berg,Costa,Dietz,Evans,Fischer,Garcia,Haddad,Ivanova,Jansen,Kim,Lopez,Moreau,Novak,Okafor,Park,Quist,Rossi,Silva,Tanaka,Usman,Varga,Weber,Zhang}') AS last) names;

INSERT INTO orders
SELECT n, 1 + abs(hashtext('who' || n)::bigint)::integer % 20000,
       timestamptz '2025-01-01 00:00:00+00' + n * interval '7 minutes',
       pick(n, 'status', '{new,paid,paid,shipped,shipped,shipped,returned}')
FROM generate_series(1, 50000) n;

INSERT INTO order_lines
SELECT o, line, 1 + abs(hashtext('what' || o || '/' || line)::bigint)::integer % 500, 1 + line % 3
FROM generate_series(1, 50000) o, generate_series(1, 1 + o % 3) line;

INSERT INTO payments
SELECT o.id, o.id, pick(o.id, 'card', '{4111111111111111,5555555555554444,378282246310005,6011111111111117}'),
       (SELECT sum(l.quantity * p.cents) FROM order_lines l JOIN products p ON p.id = l.product_id WHERE l.order_id = o.id),
       o.placed_at + interval '2 minutes'
FROM orders o WHERE o.status <> 'new';

DROP FUNCTION pick(integer, text, text[]);
CREATE INDEX ON orders (customer_id);
CREATE INDEX ON payments (order_id);

COMMIT;
ANALYZE;
