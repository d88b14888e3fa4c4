package git

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"strings"
)

// Bounds of a comparison of two files.
const (
	maxShownFile = 1 << 20   // bytes of a file that is compared line by line
	maxSteps     = 1_000_000 // of the comparison, after which it says less exactly what differs
	contextLines = 3
)

// edit is a run of lines: taken away, put in, or as before.
type edit struct {
	op       byte // '-', '+' or ' '
	from, to int  // of the old file's lines for '-' and ' ', of the new one's for '+'
}

// splitLines cuts a file into lines, each with its end.
func splitLines(b []byte) [][]byte {
	if len(b) == 0 {
		return nil
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	if len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// compareLines returns how to make b of a (Myers, An O(ND) Difference Algorithm and Its
// Variations, 1986). Where that takes too many steps, what is between the
// common beginning and end is replaced as a whole.
func compareLines(a, b [][]byte) []edit {
	seed := maphash.MakeSeed()
	sum := func(lines [][]byte) []uint64 {
		all := make([]uint64, len(lines))
		for i, l := range lines {
			all[i] = maphash.Bytes(seed, l)
		}
		return all
	}
	x, y := sum(a), sum(b)
	head := 0
	for head < len(x) && head < len(y) && x[head] == y[head] {
		head++
	}
	tail := 0
	for tail < len(x)-head && tail < len(y)-head && x[len(x)-1-tail] == y[len(y)-1-tail] {
		tail++
	}
	var edits []edit
	add := func(op byte, from, to int) {
		if from == to {
			return
		}
		if n := len(edits); n > 0 && edits[n-1].op == op && edits[n-1].to == from {
			edits[n-1].to = to
			return
		}
		edits = append(edits, edit{op, from, to})
	}
	add(' ', 0, head)
	walk(x[head:len(x)-tail], y[head:len(y)-tail], head, add)
	add(' ', len(x)-tail, len(x))
	return edits
}

// walk finds the shortest edit between two runs of lines that begin at line
// head.
func walk(x, y []uint64, head int, add func(op byte, from, to int)) {
	n, m := len(x), len(y)
	if n == 0 || m == 0 {
		add('-', head, head+n)
		add('+', head, head+m)
		return
	}
	most := n + m
	v := make([]int, 2*most+2)
	var trace [][]int
	steps := 0
	for d := 0; d <= most; d++ {
		// v[most-d:most+d+1] is what the way back needs of this round.
		trace = append(trace, append([]int(nil), v[most-d:most+d+2]...))
		if steps += 2*d + 1; steps > maxSteps {
			add('-', head, head+n)
			add('+', head, head+m)
			return
		}
		for k := -d; k <= d; k += 2 {
			i := 0
			if k == -d || k != d && v[most+k-1] < v[most+k+1] {
				i = v[most+k+1]
			} else {
				i = v[most+k-1] + 1
			}
			j := i - k
			for i < n && j < m && x[i] == y[j] {
				i++
				j++
			}
			v[most+k] = i
			if i >= n && j >= m {
				back(trace, n, m, head, add)
				return
			}
		}
	}
}

// back goes the way back through the rounds and adds the edits in order.
func back(trace [][]int, n, m, head int, add func(op byte, from, to int)) {
	type step struct {
		op byte
		at int
	}
	var steps []step
	i, j := n, m
	for d := len(trace) - 1; d > 0; d-- {
		at := func(k int) int { return trace[d][k+d] }
		k := i - j
		before := 0
		if k == -d || k != d && at(k-1) < at(k+1) {
			before = k + 1
		} else {
			before = k - 1
		}
		pi := at(before)
		pj := pi - before
		for i > pi && j > pj {
			i, j = i-1, j-1
			steps = append(steps, step{' ', i})
		}
		if i == pi {
			j--
			steps = append(steps, step{'+', j})
		} else {
			i--
			steps = append(steps, step{'-', i})
		}
	}
	for i > 0 && j > 0 {
		i, j = i-1, j-1
		steps = append(steps, step{' ', i})
	}
	for s := len(steps) - 1; s >= 0; s-- {
		add(steps[s].op, head+steps[s].at, head+steps[s].at+1)
	}
}

// appendDiff appends what differs between two files as unified hunks.
func appendDiff(dst *strings.Builder, a, b [][]byte, edits []edit) {
	for i := 0; i < len(edits); {
		if edits[i].op == ' ' {
			i++
			continue
		}
		// A hunk goes on while what is between two changes is short.
		end := i
		for end+1 < len(edits) {
			if edits[end+1].op == ' ' && (end+2 >= len(edits) || edits[end+1].to-edits[end+1].from > 2*contextLines) {
				break
			}
			end++
		}
		hunk(dst, a, b, edits, i, end)
		i = end + 1
	}
}

// hunk appends edits from first to last, with the lines around them.
func hunk(dst *strings.Builder, a, b [][]byte, edits []edit, first, last int) {
	// Where each begins in the two files.
	i, j := 0, 0
	for _, e := range edits[:first] {
		switch e.op {
		case ' ':
			i, j = e.to, j+e.to-e.from
		case '-':
			i = e.to
		case '+':
			j = e.to
		}
	}
	lead := min(contextLines, i, j)
	var body strings.Builder
	oldLines, newLines := 0, 0
	line := func(op byte, text []byte) {
		body.WriteByte(op)
		body.Write(text)
		if n := len(text); n == 0 || text[n-1] != '\n' {
			body.WriteString("\n\\ No newline at end of file\n")
		}
		if op != '+' {
			oldLines++
		}
		if op != '-' {
			newLines++
		}
	}
	for _, text := range a[i-lead : i] {
		line(' ', text)
	}
	at := i
	for _, e := range edits[first : last+1] {
		of := a
		if e.op == '+' {
			of = b
		} else {
			at = e.to
		}
		for _, text := range of[e.from:e.to] {
			line(e.op, text)
		}
	}
	for _, text := range a[at:min(at+contextLines, len(a))] {
		line(' ', text)
	}
	start := func(n, lines int) int {
		if lines == 0 {
			return n
		}
		return n + 1
	}
	fmt.Fprintf(dst, "@@ -%d,%d +%d,%d @@\n", start(i-lead, oldLines), oldLines, start(j-lead, newLines), newLines)
	dst.WriteString(body.String())
}
