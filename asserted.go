package custos

import (
	"strings"
	"unicode/utf8"
)

// What clients say of themselves, as the keys of Opened.Asserted: recorded and
// searched, never believed.
const (
	AssertedConversation = "conversation" // which conversation with a model it is of
	AssertedToolCall     = "tool_call"    // which call of a tool
	AssertedTrace        = "traceparent"  // W3C Trace Context
	AssertedSkill        = "skill_digest" // what the skill's folder is
)

// assertedFields are the header fields that carry them, where a protocol has
// such.
var assertedFields = []struct{ field, key string }{
	{"User-Agent", "user_agent"}, {"Traceparent", AssertedTrace}, {"Custos-Conversation", AssertedConversation},
	{"Custos-Tool-Call", AssertedToolCall}, {"Custos-Skill-Digest", AssertedSkill},
}

// AssertedBy reads what a client says of itself from its header, of which get
// gives a field.
func AssertedBy(get func(field string) string) map[string]string {
	says := map[string]string{}
	for _, f := range assertedFields {
		if v := get(f.field); v != "" {
			says[f.key] = AssertedText(v)
		}
	}
	return says
}

// maxAsserted bounds, in bytes, each thing that a client says of itself.
const maxAsserted = 256

// AssertedText makes of what a client says what fits on a line of a record.
func AssertedText(s string) string {
	if len(s) > maxAsserted {
		s = strings.ToValidUTF8(s[:maxAsserted], "")
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}
