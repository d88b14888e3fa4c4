package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/custos-gateway/custos/export"
)

// table is lines of cells for people to read: aligned, with hostile bytes
// made visible, the last column cut to the width of the terminal.
type table struct {
	width int // of the terminal in characters; 0: nothing is cut
	rows  [][]string
}

func newTable(w io.Writer, head ...string) *table {
	return &table{width: terminalWidth(w), rows: [][]string{head}}
}

func (t *table) add(cells ...string) {
	for i, c := range cells {
		cells[i] = export.Line(c)
	}
	t.rows = append(t.rows, cells)
}

func (t *table) print(w io.Writer) error {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		line := ""
		for i, c := range row {
			if i == len(row)-1 {
				line += c
				break
			}
			line += c + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2)
		}
		b.WriteString(strings.TrimRight(cut(line, t.width), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cut shortens s to width characters; 0 leaves it.
func cut(s string, width int) string {
	if width <= 0 || utf8.RuneCountInString(s) <= width {
		return s
	}
	r := []rune(s)
	return string(r[:width-1]) + "…"
}

// localTime shows a time where the reader is.
func localTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// bytesOf shows a count of bytes.
func bytesOf(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for ; f >= unit && i < 4; i++ {
		f /= unit
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}

// meter shows the progress of long work on a terminal.
type meter struct {
	w     io.Writer
	what  string
	next  time.Time
	shown bool
}

// newMeter returns a meter on w; nothing is shown where w is no terminal and
// nobody asked.
func newMeter(w io.Writer, what string, asked bool) *meter {
	if !asked && terminalWidth(w) == 0 {
		w = nil
	}
	return &meter{w: w, what: what, next: time.Now().Add(200 * time.Millisecond)}
}

func (m *meter) show(done, total int64) {
	if m.w == nil || time.Now().Before(m.next) {
		return
	}
	m.next, m.shown = time.Now().Add(200*time.Millisecond), true
	if total > 0 {
		fmt.Fprintf(m.w, "\r%s %d of %d (%d%%)", m.what, done, total, done*100/total)
		return
	}
	fmt.Fprintf(m.w, "\r%s %d", m.what, done)
}

func (m *meter) end() {
	if m.shown {
		fmt.Fprint(m.w, "\r\033[K")
	}
}
