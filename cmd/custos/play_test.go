package main

import (
	"bytes"
	"context"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/store"
)

// recorded is a session: an operation after 3 s, its answer 500 ms later, the
// next operation an hour later.
func recorded() iter.Seq2[*api.Line, error] {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return func(yield func(*api.Line, error) bool) {
		for _, l := range []*api.Line{
			{Session: &store.Session{StartedAt: start}},
			{Operation: &store.Operation{Entry: 1, At: start.Add(3 * time.Second), Outcome: "ok"}},
			{Event: &api.Event{Operation: 1, Event: custos.Event{At: 500_000, Tag: "SELECT 1"}}},
			{Operation: &store.Operation{Entry: 2, At: start.Add(time.Hour), Outcome: "ok"}},
			{End: &api.End{Reason: "closed"}},
		} {
			if !yield(l, nil) {
				return
			}
		}
	}
}

func TestReplayKeepsTheSessionsTime(t *testing.T) {
	for _, c := range []struct {
		player player
		want   time.Duration
	}{
		{player{wait: true, speed: 1, pause: 2 * time.Second}, 4500 * time.Millisecond},
		{player{wait: true, speed: 10, pause: 2 * time.Second}, 450 * time.Millisecond},
		{player{wait: true, speed: 1, pause: 24 * time.Hour}, time.Hour},
		{player{wait: false, speed: 1, pause: 2 * time.Second}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			c.player.g = &globals{stdout: new(bytes.Buffer)}
			begun := time.Now()
			if err := c.player.play(t.Context(), recorded()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took != c.want {
				t.Errorf("at speed %v with pauses of %v it took %v, want %v", c.player.speed, c.player.pause, took, c.want)
			}
		})
	}
}

func TestReplayEndsWhenItIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p := player{g: &globals{stdout: new(bytes.Buffer)}, wait: true, speed: 1, pause: time.Hour}
		if err := p.play(ctx, recorded()); err == nil {
			t.Error("it went on")
		}
	})
}
