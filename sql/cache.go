package sql

import (
	"container/list"
	"sync"
)

// keys are buffers for the keys of texts; longer ones than maxKept are let go.
var keys = sync.Pool{New: func() any {
	b := make([]byte, 0, 512)
	return &b
}}

const maxKept = 64 << 10

// cache keeps answers by key, the least lately used going first. A key is what
// read made of a plain text, or another text as it is.
type cache struct {
	mu      sync.Mutex
	entries map[string]*list.Element
	order   list.List // of *cached, the latest used first
	size    int
	limit   int
}

type cached struct {
	key  string
	text *Text
	size int
}

func newCache(limit int) *cache {
	return &cache{entries: make(map[string]*list.Element), limit: limit}
}

func (c *cache) get(key []byte) *Text {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[string(key)]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).text
}

// put keeps t, unless it alone would fill an eighth of the cache.
func (c *cache) put(key string, t *Text) {
	size := len(key) + sizeOf(t)
	if size > c.limit/8 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[key] != nil {
		return
	}
	c.entries[key] = c.order.PushFront(&cached{key, t, size})
	c.size += size
	for c.size > c.limit {
		last := c.order.Remove(c.order.Back()).(*cached)
		delete(c.entries, last.key)
		c.size -= last.size
	}
}

// sizeOf is about what t and its entry take, in bytes.
func sizeOf(t *Text) int {
	size := 400
	for _, s := range append(t.Statements[:len(t.Statements):len(t.Statements)], t.Statement) {
		size += 300
		f := &s.Facts
		for _, list := range [][]string{s.Verbs, s.Objects, f.Columns, f.Predicates, f.Changed, f.Copied, f.Unknown} {
			size += sizeOfAll(list)
		}
		size += 16 * len(f.Effects)
		for _, r := range s.Results {
			size += 48 + len(r.Name) + sizeOfAll(r.Sources)
		}
	}
	return size
}

func sizeOfAll(list []string) int {
	size := 16 * len(list)
	for _, word := range list {
		size += len(word)
	}
	return size
}
