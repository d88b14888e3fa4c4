package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// scalar is a type with a form of its own in one YAML value. Its errors say
// what is wanted and never what was given, which may be a secret.
type scalar interface {
	parse(text string) error
}

// Duration is a time span written as Go writes it, and with days: 90s, 15m,
// 400d, 1d12h.
type Duration time.Duration

func (d *Duration) parse(text string) error {
	bad := errors.New("want a time span such as 90s, 15m, 12h or 400d")
	rest := text
	var days time.Duration
	if number, after, found := strings.Cut(text, "d"); found {
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || n > uint64(math.MaxInt64/(24*time.Hour)) {
			return bad
		}
		days, rest = time.Duration(n)*24*time.Hour, after
		if rest == "" {
			*d = Duration(days)
			return nil
		}
	}
	span, err := time.ParseDuration(rest)
	if err != nil || span < 0 || days > math.MaxInt64-span {
		return bad
	}
	*d = Duration(days + span)
	return nil
}

// String writes d as it is written in a file.
func (d Duration) String() string {
	const day = Duration(24 * time.Hour)
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	return time.Duration(d).String()
}

// Space is an amount of disk: bytes, such as 1GiB or 500MB, or a share of the
// disk, such as 5%.
type Space struct {
	bytes   uint64
	percent float64
}

var units = []struct {
	name string
	size uint64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

func (s *Space) parse(text string) error {
	bad := errors.New("want bytes with a unit, such as 2GiB or 500MB, or a share of the disk, such as 5%")
	if number, found := strings.CutSuffix(text, "%"); found {
		percent, err := strconv.ParseFloat(number, 64)
		if err != nil || !(percent >= 0 && percent < 100) {
			return bad
		}
		*s = Space{percent: percent}
		return nil
	}
	for _, unit := range units {
		number, found := strings.CutSuffix(text, unit.name)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 64)
		if err != nil || n > math.MaxInt64/unit.size {
			return bad
		}
		*s = Space{bytes: n * unit.size}
		return nil
	}
	return bad
}

// Of returns s in bytes for a disk of total bytes.
func (s Space) Of(total uint64) uint64 {
	if s.percent > 0 {
		return uint64(float64(total) * s.percent / 100)
	}
	return s.bytes
}

// String writes s as it may be written in a file.
func (s Space) String() string {
	if s.percent > 0 {
		return fmt.Sprintf("%g%%", s.percent)
	}
	return strconv.FormatUint(s.bytes, 10) + "B"
}

func (t *TargetTLS) parse(text string) error {
	*t = TargetTLS{Mode: text}
	return nil
}

func (*Secret) parse(string) error {
	return errors.New("a secret is not written in this file: " +
		"use {env: NAME} for an environment variable or {file: PATH} for a file, and change this one, for it was seen")
}
