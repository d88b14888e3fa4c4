package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/store"
)

// player shows a stream of what was run and what came back.
type player struct {
	g     *globals
	wait  bool
	speed float64
	pause time.Duration // the longest silence
	live  bool          // outcomes come as they happen
	clock time.Time     // when the last thing shown happened
	// The operation being shown: its entry, its time, and its outcome, if
	// that is to be shown after its answer.
	entry   uint64
	at      time.Time
	outcome string
}

func (p *player) play(ctx context.Context, lines iter.Seq2[*api.Line, error]) error {
	for l, err := range lines {
		if err != nil {
			return explain(err)
		}
		if p.g.json {
			err = printLine(p.g.stdout, l)
		} else {
			err = p.show(ctx, l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// printLine prints one line of JSON.
func printLine(w io.Writer, l *api.Line) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode JSON: %w", err)
	}
	_, err = io.WriteString(w, export.JSON(string(b))+"\n")
	return err
}

func (p *player) show(ctx context.Context, l *api.Line) error {
	w := p.g.stdout
	switch {
	case l.Session != nil:
		p.clock = l.Session.StartedAt
		printSession(p.g, l.Session)
	case l.Operation != nil:
		if err := p.finish(); err != nil {
			return err
		}
		o := l.Operation
		p.entry, p.at = o.Entry, o.At
		if !p.live || o.Outcome != store.OutcomeUnsettled {
			p.outcome = outcomeOf(o)
		}
		if err := p.until(ctx, o.At); err != nil {
			return err
		}
		return showOperation(w, o)
	case l.Event != nil:
		if err := p.until(ctx, p.at.Add(time.Duration(l.Event.At)*time.Microsecond)); err != nil {
			return err
		}
		if l.Event.Operation != p.entry {
			p.entry = l.Event.Operation
			fmt.Fprintf(w, "-- the answer to entry %d\n", p.entry)
		}
		return showEvent(w, &l.Event.Event)
	case l.Input != nil:
		_, err := fmt.Fprintf(w, "  (%s of input)\n", bytesOf(int64(len(l.Input.Data))))
		return err
	case l.Settled != nil:
		p.outcome = outcomeOf(l.Settled)
		return p.finish()
	case l.End != nil:
		if err := p.finish(); err != nil || l.End.Reason == "" {
			return err
		}
		_, err := fmt.Fprintf(w, "-- the session ended: %s\n", export.Line(l.End.Reason))
		return err
	}
	return nil
}

// finish shows the outcome of the operation that was shown last.
func (p *player) finish() error {
	if p.outcome == "" {
		return nil
	}
	_, err := fmt.Fprintf(p.g.stdout, "-- %s\n\n", export.Line(p.outcome))
	p.outcome = ""
	return err
}

// until waits as the session did between the last thing shown and t.
func (p *player) until(ctx context.Context, t time.Time) error {
	gap := t.Sub(p.clock)
	if t.After(p.clock) {
		p.clock = t
	}
	if !p.wait || gap <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(time.Duration(float64(min(gap, p.pause)) / p.speed))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func showOperation(w io.Writer, o *store.Operation) error {
	text := strings.ReplaceAll(export.Printable(o.Text), "\n", "\n   ")
	if _, err := fmt.Fprintf(w, "%s  entry %d  %s%s\n=> %s\n", localTime(o.At), o.Entry, o.Effect, by(o.Rule), text); err != nil {
		return err
	}
	for i, v := range o.Params {
		if _, err := fmt.Fprintf(w, "   $%d = %s\n", i+1, export.Line(v)); err != nil {
			return err
		}
	}
	return nil
}

func by(rule string) string {
	if rule == "" {
		return ""
	}
	return " by " + export.Line(rule)
}

func showEvent(w io.Writer, e *custos.Event) error {
	var err error
	switch {
	case e.Columns != nil:
		_, err = fmt.Fprintf(w, "  %s\n", export.Line(strings.Join(e.Columns, " | ")))
	case e.Row != nil:
		cells := make([]string, len(e.Row))
		for i, v := range e.Row {
			cells[i] = "null"
			if v != nil {
				cells[i] = export.Line(*v)
			}
		}
		_, err = fmt.Fprintf(w, "  %s\n", strings.Join(cells, " | "))
	case e.Text != "":
		_, err = io.WriteString(w, export.Printable(e.Text))
	case e.Error != "":
		_, err = fmt.Fprintf(w, "  ERROR: %s\n", export.Printable(e.Error))
	case e.Notice != "":
		_, err = fmt.Fprintf(w, "  NOTICE: %s\n", export.Printable(e.Notice))
	default:
		_, err = fmt.Fprintf(w, "  %s\n", export.Line(e.Tag))
	}
	return err
}

// exportSession writes a session's stream in a format.
func exportSession(w io.Writer, format string, rows int, lines iter.Seq2[*api.Line, error]) error {
	var to export.Writer
	switch format {
	case "jsonl":
		for l, err := range lines {
			if err != nil {
				return explain(err)
			}
			if err := printLine(w, l); err != nil {
				return err
			}
		}
		return nil
	case "csv":
		to = export.NewCSV(w)
	case "html":
		to = export.NewHTML(w, rows)
	default:
		return &exitError{exitUsage, fmt.Errorf("read --format: %q is not jsonl, csv or html", format)}
	}
	for l, err := range lines {
		if err != nil {
			return explain(err)
		}
		switch {
		case l.Session != nil:
			err = to.Session(l.Session)
		case l.Operation != nil:
			err = to.Operation(l.Operation)
		case l.Event != nil:
			err = to.Event(&l.Event.Event)
		}
		if err != nil {
			return fmt.Errorf("write export: %w", err)
		}
	}
	return to.End()
}

// writeFile writes a file whole or not at all: a crash leaves a file named
// after it with .tmp, which nobody takes for it.
func writeFile(path string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
