package policy

import (
	"hash/maphash"
	"strconv"
	"sync/atomic"

	"github.com/custos-gateway/custos"
)

// The sizes of what a policy remembers, powers of two: a slot holds one entry,
// and a new one takes the place of the old. It is a bounded amount of memory,
// without a lock and without an order of use to keep.
const (
	profileSlots = 1 << 12
	answerSlots  = 1 << 14
)

// profile is what rules may know of a caller, as text: callers whom no rule
// tells apart have the same.
type profile struct {
	caller *custos.Principal
	text   string
}

// key names everything that a rule which is not volatile may ask of: the
// things behind its pointers never change once they are judged.
type key struct {
	profile        string
	connection     *custos.Connection
	facts          *custos.Facts
	class          string
	writes         bool
	verbs, objects words
}

// words stands for a list by where it lies.
type words struct {
	first *string
	n     int
}

func wordsOf(list []string) words {
	if len(list) == 0 {
		return words{}
	}
	return words{&list[0], len(list)}
}

// answer is what is remembered of a question.
type answer struct {
	key key
	// decision is complete unless open names rules to ask each time.
	decision custos.Decision
	open     bool
	sketch   sketch
}

func (p *Policy) remember() {
	p.seed = maphash.MakeSeed()
	p.profiles = make([]atomic.Pointer[profile], profileSlots)
	p.answers = make([]atomic.Pointer[answer], answerSlots)
	p.sets = map[maskingSet][]custos.Mask{{}: nil}
}

func (p *Policy) profileOf(caller *custos.Principal) string {
	slot := &p.profiles[maphash.Comparable(p.seed, caller)%profileSlots]
	if known := slot.Load(); known != nil && known.caller == caller {
		return known.text
	}
	b := appendField(nil, string(caller.Kind))
	for _, g := range caller.Groups {
		b = appendField(b, g)
	}
	if p.identity {
		for who := caller; who != nil; who = who.OnBehalfOf {
			b = append(b, '>')
			b = appendField(b, who.Issuer)
			b = appendField(b, who.Subject)
			b = appendField(b, who.Name)
			b = appendField(b, string(who.Kind))
			for _, g := range who.Groups {
				b = appendField(b, g)
			}
		}
	}
	made := &profile{caller, string(b)}
	slot.Store(made)
	return made.text
}

// appendField writes a text so that no two lists of texts look alike.
func appendField(b []byte, text string) []byte {
	b = strconv.AppendInt(b, int64(len(text)), 10)
	b = append(b, ':')
	return append(b, text...)
}

// recall returns what is remembered of k, and where to keep it.
func (p *Policy) recall(k key) (*answer, *atomic.Pointer[answer]) {
	slot := &p.answers[maphash.Comparable(p.seed, k)%answerSlots]
	if a := slot.Load(); a != nil && a.key == k {
		return a, slot
	}
	return nil, slot
}
