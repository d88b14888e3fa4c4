package git

import (
	"fmt"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// Name is the protocol's.
const Name = "git"

// The classes of operation: what the gateway takes a request for. Whatever is
// none of these is refused.
const (
	classDiscover = "discover" // GET info/refs: what a repository has
	classRefs     = "ls-refs"
	classFetch    = "fetch"
	classInfo     = "object-info"
	classProbe    = "probe"    // a push without commands: may I?
	classConsider = "consider" // what the gateway reads to judge a push
	classPush     = "push"
	classBatch    = "lfs-batch"
	classLocks    = "lfs-locks"
	classObject   = "lfs-object"
	classUnknown  = "unknown"
)

// operation is what a request to read does.
func (f *fetchRequest) operation(repository string) *custos.Operation {
	text := f.command + " " + repository
	if len(f.words) > 0 {
		text += "\n" + strings.Join(f.words, "\n")
	}
	if f.haves > 0 {
		text += fmt.Sprintf("\n(%d haves)", f.haves)
	}
	return &custos.Operation{Class: f.command, Text: text, Verbs: []string{strings.ToUpper(f.command)}, Objects: []string{repository},
		Facts: &custos.Facts{Effects: []string{"read"}, Attributes: map[string][]string{"repository": {repository}}}}
}

// discovery is a look at what a repository has, by the name of a service.
func discovery(repository, service string) *custos.Operation {
	return &custos.Operation{Class: classDiscover, Text: "discover " + repository + " for " + service, Verbs: []string{"DISCOVER"}, Objects: []string{repository},
		Facts: &custos.Facts{Effects: []string{"read"}, Attributes: map[string][]string{"repository": {repository}}}}
}
