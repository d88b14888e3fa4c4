package git

import (
	"errors"
	"strconv"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// The rules of this protocol itself: what it lets through for nobody.
const (
	ruleRequest  = "git/request"
	ruleProtocol = "git/protocol"
	ruleObjects  = "git/objects"
	ruleLimit    = "git/limit"
	ruleStale    = "git/stale"
	ruleMask     = "git/mask"
)

// refuse is a decision of this protocol's own.
func refuse(rule, reason, hint string) *custos.Decision {
	return &custos.Decision{Effect: custos.Refuse, Rule: rule, Reason: reason, Hint: hint}
}

// refusalOf says what an error makes of a push; nil: it is not the push's fault.
func refusalOf(err error) *custos.Decision {
	reason := printable(err.Error())
	switch {
	case errors.Is(err, errStale):
		return refuse(ruleStale, reason, "run git fetch, and push what comes of it")
	case errors.Is(err, errBound):
		return refuse(ruleLimit, reason, "push it in several parts, or keep large files elsewhere, such as in LFS")
	case errors.Is(err, errObject):
		return refuse(ruleObjects, reason, "make the commits anew without it: git fsck and git log name them")
	case errors.Is(err, errPack), errors.Is(err, errDelta), errors.Is(err, errRequest), errors.Is(err, errPkt):
		return refuse(ruleRequest, reason, "use a git of today; git -c pack.window=0 push --no-thin sends the plainest pack")
	}
	return nil
}

// told is a refusal in lines: what, why, what next, and where it is on record.
func told(r *custos.Refusal) []string {
	lines := []string{r.Error()}
	if r.Hint != "" {
		lines = append(lines, "hint: "+r.Hint)
	}
	return append(lines, detail(r))
}

func detail(r *custos.Refusal) string {
	b := strconv.AppendQuote([]byte(`{"rule":`), r.Rule)
	if r.Session != "" {
		b = strconv.AppendQuote(append(b, `,"session":`...), string(r.Session))
	}
	if r.Recorded {
		b = strconv.AppendUint(append(b, `,"entry":`...), r.Entry, 10)
	}
	if r.Approval != "" {
		b = strconv.AppendQuote(append(b, `,"approval":`...), r.Approval)
	}
	b = strconv.AppendBool(append(b, `,"retry":`...), r.Retry)
	return string(append(b, '}'))
}

// maxReason bounds what is said of one ref, in bytes: a packet has more to hold.
const maxReason = 1000

// oneLine makes of a text what fits into a line of the protocol.
func oneLine(s string) string { return clip(printable(s), maxReason) }

// report appends the answer to a push that was refused: what git prints as
// coming from the remote, and the state of each ref (gitprotocol-pack(5), "Report
// Status"). It is nil where the client has no way to be told.
func (p *pushRequest) report(dst []byte, r *custos.Refusal) []byte {
	banded := p.has("side-band-64k")
	if banded {
		dst = appendProgress(dst, told(r)...)
	}
	if p.has("report-status") || p.has("report-status-v2") {
		// The objects were fine, or nobody looked: it is the refs that are refused.
		status := appendPkt(nil, "unpack ok\n")
		for _, c := range p.commands {
			status = appendPkt(status, "ng "+c.ref+" "+oneLine(r.Error())+"\n")
		}
		status = append(status, flushPkt...)
		if !banded {
			return append(dst, status...)
		}
		dst = appendBand(dst, bandData, status, maxPkt)
	}
	if banded {
		dst = append(dst, flushPkt...)
	}
	return dst
}

// appendProgress appends lines that git prints behind "remote: ".
func appendProgress(dst []byte, lines ...string) []byte {
	for _, l := range lines {
		dst = appendBand(dst, bandProgress, strings.ToValidUTF8(printable(l), "?")+"\n", maxPkt)
	}
	return dst
}

// errorPkt is the answer to a request to read that was refused: git prints it
// behind "fatal: remote error: " (gitprotocol-pack(5), "error-line").
func errorPkt(r *custos.Refusal) []byte {
	return appendPkt(nil, "ERR "+clip(strings.Join(told(r), "\n"), maxPkt-16))
}
