package approval

import (
	"fmt"
	"slices"
	"strings"

	custos "github.com/custos-gateway/custos"
)

func holderOf(caller *custos.Principal, connection string) holder {
	return holder{caller.Issuer, caller.Subject, connection}
}

// gives enters it among what gives access, if it does. The caller holds mu.
func (d *Desk) gives(it *item) {
	if it.For > 0 {
		h := holderOf(&it.Caller, it.Connection)
		d.access[h] = append(d.access[h], it)
		d.granting.Add(1)
	}
}

// takes is the end of access. The caller holds mu.
func (d *Desk) takes(it *item) {
	h := holderOf(&it.Caller, it.Connection)
	i := slices.Index(d.access[h], it)
	if i < 0 {
		return
	}
	d.granting.Add(-1)
	if d.access[h] = slices.Delete(d.access[h], i, i+1); len(d.access[h]) == 0 {
		delete(d.access, h)
	}
}

// Granted is of gate.Approver. While nobody has access it costs nothing.
func (d *Desk) Granted(caller *custos.Principal, connection string, effects []string, breakGlass bool) (id string) {
	if d.granting.Load() == 0 {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, it := range d.access[holderOf(caller, connection)] {
		if (breakGlass || !it.BreakGlass) && !it.ending && sameBehalf(&it.Caller, caller) && d.o.Now().Before(it.Until) && it.Covers(effects) {
			return it.ID
		}
	}
	return ""
}

func sameBehalf(a, b *custos.Principal) bool {
	return a.OnBehalfOf == nil && b.OnBehalfOf == nil || a.OnBehalfOf.Same(b.OnBehalfOf)
}

// Revoke ends access before its time: a reviewer does, or who has it. The
// operations that it let through run on.
func (d *Desk) Revoke(id string, by *custos.Principal, reason string) (custos.Approval, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	it := d.all[id]
	if it == nil {
		return custos.Approval{}, ErrUnknown
	}
	switch {
	case !it.Concerns(by) && !d.reviews(it, by):
		return it.Approval, ErrReviewer
	case it.For == 0 || it.State != custos.ApprovalApproved || it.ending:
		return it.Approval, ErrNoAccess
	case strings.TrimSpace(reason) == "":
		return it.Approval, ErrReason
	}
	answer := custos.ApprovalAnswer{By: *by, Reason: reason, At: d.o.Now()}
	if err := d.keep(ended(it, custos.ApprovalRevoked, answer)); err != nil {
		return it.Approval, fmt.Errorf("revoke access: %w", err)
	}
	it.Answers = append(slices.Clip(it.Answers), answer)
	d.become(it, custos.ApprovalRevoked)
	return it.Approval, nil
}

// reviews reports whether by is among those who are asked. The caller holds mu.
func (d *Desk) reviews(it *item, by *custos.Principal) bool {
	groups := it.Groups
	if len(groups) == 0 && d.o.Reviewers != nil {
		groups = d.o.Reviewers()
	}
	return by.Kind == custos.KindPerson && by.OnBehalfOf == nil && by.InAny(groups)
}
