package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/sql"
)

// catalogQueries read what a database has. They run as one text in one
// transaction, with the search path that nobody but the server's owner can put
// anything into, and leave no trace in the session. What the server itself
// brings counts as tables, whatever it is.
const catalogQueries = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL search_path = pg_catalog;
SELECT c.oid, n.nspname, c.relname,
  CASE WHEN n.nspname IN ('pg_catalog', 'information_schema') THEN 'r' ELSE c.relkind END,
  CASE WHEN c.relkind IN ('v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') THEN pg_get_viewdef(c.oid) END,
  c.relkind NOT IN ('v', 'm') AND c.relhasrules OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal),
  c.relrowsecurity
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'pg_toast';
SELECT a.attrelid, a.attnum, a.attname, a.atttypid, d.description, a.attgenerated <> ''
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_description d ON d.objoid = a.attrelid AND d.objsubid = a.attnum AND d.classoid = 'pg_class'::regclass
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'pg_toast'
ORDER BY a.attrelid, a.attnum;
SELECT indrelid, indkey FROM pg_index WHERE indisunique AND indisvalid AND indpred IS NULL AND indexprs IS NULL;
SELECT inhrelid, inhparent FROM pg_inherits;
SELECT n.nspname, p.proname, p.provolatile, l.lanname, CASE WHEN l.lanname IN ('sql', 'plpgsql') THEN p.prosrc END
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema');
SELECT EXISTS (SELECT FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode JOIN pg_language l ON l.oid = p.prolang
    WHERE o.oid >= 16384 AND o.oprleft < 16384 AND o.oprright < 16384 AND l.lanname NOT IN ('internal', 'c'))
  OR EXISTS (SELECT FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc JOIN pg_language l ON l.oid = p.prolang
    WHERE c.oid >= 16384 AND c.castsource < 16384 AND c.casttarget < 16384 AND l.lanname NOT IN ('internal', 'c'));
COMMIT`

// maxCatalog bounds what is read of a catalogue, in rows. Of a larger one
// nothing is known, and what depends on it is hidden or refused.
const maxCatalog = 500_000

// readCatalog reads the catalogue of the database that pg is logged in to. If
// it is the same as before, which has its sum, it returns that.
func readCatalog(ctx context.Context, pg *pgconn.PgConn, before *sql.Catalog, sum uint64) (*sql.Catalog, uint64, error) {
	results, err := pg.Exec(ctx, catalogQueries).ReadAll()
	if err != nil {
		return nil, 0, fmt.Errorf("read catalogue: %w", err)
	}
	// BEGIN and SET come before, COMMIT behind.
	if len(results) != 9 {
		return nil, 0, fmt.Errorf("read catalogue: %d answers, want 9", len(results))
	}
	var hash maphash.Hash
	hash.SetSeed(catalogSeed)
	rows := 0
	for _, r := range results {
		if rows += len(r.Rows); rows > maxCatalog {
			return nil, 0, fmt.Errorf("read catalogue: it has more than %d rows", maxCatalog)
		}
		for _, row := range r.Rows {
			for _, value := range row {
				maphash.WriteComparable(&hash, len(value))
				hash.Write(value)
			}
		}
	}
	if before != nil && hash.Sum64() == sum {
		return before, sum, nil
	}
	return newCatalog(results), hash.Sum64(), nil
}

var catalogSeed = maphash.MakeSeed()

func newCatalog(results []*pgconn.Result) *sql.Catalog {
	relations := map[uint32]*sql.Relation{}
	var order []uint32
	for _, r := range results[2].Rows {
		oid := number(r[0])
		relations[oid] = &sql.Relation{OID: oid, Schema: string(r[1]), Name: string(r[2]), Kind: r[3][0], Definition: string(r[4]), Ruled: string(r[5]) == "t", Policed: string(r[6]) == "t"}
		order = append(order, oid)
	}
	for _, r := range results[3].Rows {
		if relation := relations[number(r[0])]; relation != nil {
			relation.Columns = append(relation.Columns, sql.Column{Number: int16(number(r[1])), Name: string(r[2]), Type: number(r[3]), Tags: commentTags(string(r[4])), Generated: string(r[5]) == "t"})
		}
	}
	for _, r := range results[4].Rows {
		if relation := relations[number(r[0])]; relation != nil {
			var key []int16
			for field := range strings.FieldsSeq(string(r[1])) {
				n, _ := strconv.ParseInt(field, 10, 16)
				key = append(key, int16(n))
			}
			relation.Keys = append(relation.Keys, key)
		}
	}
	for _, r := range results[5].Rows {
		if relation := relations[number(r[0])]; relation != nil {
			relation.Parents = append(relation.Parents, number(r[1]))
		}
	}
	all := make([]sql.Relation, 0, len(order))
	for _, oid := range order {
		all = append(all, *relations[oid])
	}
	functions := make([]sql.Function, 0, len(results[6].Rows))
	for _, r := range results[6].Rows {
		functions = append(functions, sql.Function{Schema: string(r[0]), Name: string(r[1]), Volatility: r[2][0], Language: string(r[3]), Body: string(r[4])})
	}
	c := sql.NewCatalog(all, functions)
	if string(results[7].Rows[0][0]) == "t" {
		c.Overridden()
	}
	return c
}

func number(b []byte) uint32 {
	n, _ := strconv.ParseUint(string(b), 10, 32) // the server's own oid and attnum
	return uint32(n)
}

// commentTags reads the tags in a column's comment: "tags: pii, secret" in a
// line of its own.
func commentTags(comment string) []string {
	var tags []string
	for line := range strings.Lines(comment) {
		list, found := strings.CutPrefix(strings.TrimSpace(line), "tags:")
		if !found {
			continue
		}
		for tag := range strings.SplitSeq(list, ",") {
			if tag = strings.TrimSpace(tag); tag != "" {
				tags = append(tags, tag)
			}
		}
	}
	return tags
}

// catalogLife is how long a catalogue is taken for what the database has. What
// callers change through the gateway is seen at once.
// One that cannot be read again serves until catalogEnd.
const (
	catalogLife = 30 * time.Second
	catalogEnd  = 10 * time.Minute
)

// catalogs keeps what is known of each database.
type catalogs struct {
	mu   sync.Mutex
	kept map[string]*keeper
}

// keeper keeps the catalogue of one connection fresh. It belongs to the side
// of the login: connect holds the credential, and nobody else sees it.
type keeper struct {
	mu      sync.Mutex
	catalog *sql.Catalog
	sum     uint64 // of what catalog was made of
	read    time.Time
	stale   bool
	changed bool          // while it is read
	reading chan struct{} // closed when the reading that is under way ends; nil: none is
	connect func(context.Context) (*pgconn.PgConn, error)
	failed  error     // of the last reading
	retry   time.Time // not before, after a failure

	previews chan struct{} // holds as many as are under way
}

// of returns the keeper of a connection.
func (c *catalogs) of(connection *custos.Connection, user string) *keeper {
	key := strings.Join([]string{connection.Name, connection.Address, connection.Database, user}, "\x00")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil {
		c.kept = map[string]*keeper{}
	}
	k := c.kept[key]
	if k == nil {
		k = &keeper{previews: make(chan struct{}, previewsAtOnce)}
		c.kept[key] = k
	}
	return k
}

// loggedIn takes over how to log in, by the newest credential.
func (k *keeper) loggedIn(connect func(context.Context) (*pgconn.PgConn, error)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.connect = connect
}

// due reports whether what is known is too old. The caller holds mu.
func (k *keeper) due() bool {
	return k.catalog == nil || k.stale || time.Since(k.read) > catalogLife
}

// done takes the end of a reading. What was known before a failure stays known.
func (k *keeper) done(c *sql.Catalog, sum uint64, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed = err; err == nil {
		k.catalog, k.sum, k.read = c, sum, time.Now()
		k.stale = k.changed
		k.changed = false
	} else {
		k.retry = time.Now().Add(retryAfter)
	}
	close(k.reading)
	k.reading = nil
}

// expire says that the database was changed.
func (k *keeper) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stale = true
	k.changed = k.reading != nil
}

// current returns what is known of the database. It waits for a reading where
// nothing is known, or where the database was changed; one that is only old
// is read again behind the caller's back.
func (k *keeper) current(ctx context.Context) (*sql.Catalog, error) {
	k.mu.Lock()
	if !k.due() {
		defer k.mu.Unlock()
		return k.catalog, nil
	}
	reading := k.reading
	if reading == nil && time.Now().Before(k.retry) {
		defer k.mu.Unlock()
		if k.catalog != nil && !k.stale && time.Since(k.read) < catalogEnd {
			return k.catalog, nil
		}
		return nil, k.failed
	}
	if reading == nil {
		reading = make(chan struct{})
		k.reading = reading
		go k.readNow(k.connect)
	}
	catalog, wait := k.catalog, k.catalog == nil || k.stale || time.Since(k.read) >= catalogEnd
	k.mu.Unlock()
	if !wait {
		return catalog, nil
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-reading:
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed != nil {
		return nil, k.failed
	}
	return k.catalog, nil
}

// known returns what is known of the database, or nil. It does not wait: what
// is due is read behind the caller's back.
func (k *keeper) known() *sql.Catalog {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.due() {
		return k.catalog
	}
	if k.reading == nil && !time.Now().Before(k.retry) {
		k.reading = make(chan struct{})
		go k.readNow(k.connect)
	}
	if k.stale || time.Since(k.read) >= catalogEnd {
		return nil
	}
	return k.catalog
}

// readTimeout bounds a reading; retryAfter is how long after a failure nobody
// tries again.
const (
	readTimeout = 10 * time.Second
	retryAfter  = 5 * time.Second
)

var errNoLogin = errors.New("read catalogue: nobody has logged in")

// readNow reads the catalogue, on a line of its own, which no client has set
// anything for.
func (k *keeper) readNow(connect func(context.Context) (*pgconn.PgConn, error)) {
	if connect == nil {
		k.done(nil, 0, errNoLogin)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	pg, err := connect(ctx)
	if err != nil {
		k.done(nil, 0, fmt.Errorf("read catalogue: %w", err))
		return
	}
	defer pg.Close(ctx)
	k.mu.Lock()
	before, sum := k.catalog, k.sum
	k.mu.Unlock()
	k.done(readCatalog(ctx, pg, before, sum))
}
