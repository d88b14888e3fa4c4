package store

import (
	"context"
	"fmt"
	"time"
)

// Expired lists at most limit sessions on a connection that ended before a
// time and whose recordings are neither erased nor held, in the order in which
// they ended, from the one after after on; nil: from the first. A page costs
// the same however many sessions there are.
func (x *Index) Expired(ctx context.Context, connection string, before time.Time, after *Session, limit int) ([]Session, error) {
	query, args := "", []any{connection, before.UnixMicro()}
	if after != nil {
		query = " AND (s.ended, s.entry) > (?, ?)"
		args = append(args, after.EndedAt.UnixMicro(), int64(after.Opened))
	}
	sessions, err := collect(ctx, x, scanSession, "SELECT "+sessionColumns+` FROM sessions s
		WHERE s.connection = ? AND s.ended < ? AND s.erased IS NULL AND s.held IS NULL AND s.state = 'closed'`+query+
		" ORDER BY s.ended, s.entry LIMIT ?", append(args, limit))
	if err != nil {
		return nil, fmt.Errorf("list sessions past their retention: %w", err)
	}
	return sessions, nil
}
