package bench

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// number is a rate to three digits, with commas between thousands.
func number(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	scale := math.Pow(10, math.Max(0, math.Floor(math.Log10(v))-2))
	digits := strconv.FormatFloat(math.Round(v/scale)*scale, 'f', 0, 64)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// microseconds is a time in the unit that suits it.
func microseconds(us float64) string {
	switch {
	case us == 0:
		return "-"
	case us < 1000:
		return fmt.Sprintf("%.0f µs", us)
	case us < 1e6:
		return fmt.Sprintf("%.3g ms", us/1e3)
	default:
		return fmt.Sprintf("%.3g s", us/1e6)
	}
}

// value is a claim's value, bound or aim.
func value(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3g", v)
}

// bound is what a claim asks for.
func (c *ClaimResult) bound() string {
	switch {
	case c.AtMost > 0:
		return "at most " + value(c.AtMost)
	case c.AtLeast > 0:
		return "at least " + value(c.AtLeast)
	default:
		return "-"
	}
}

// verdict is what became of a claim, in a word.
func (c *ClaimResult) verdict() string {
	switch {
	case !c.Pass:
		return "FAIL"
	case c.AtLeast == 0 && c.AtMost == 0:
		return "shown"
	case c.Aim > 0 && c.Value >= c.Aim:
		return "pass, aim reached"
	default:
		return "pass"
	}
}

// spread is the lowest and the highest value of the rounds.
func (c *ClaimResult) spread() string {
	if len(c.Rounds) < 2 {
		return "-"
	}
	low, high := c.Rounds[0], c.Rounds[0]
	for _, v := range c.Rounds {
		low, high = min(low, v), max(high, v)
	}
	return value(low) + " .. " + value(high)
}

// sides are the absolute figures of a claim.
func (c *ClaimResult) sides() string {
	if c.Over == "" {
		return "-"
	}
	show := number
	if c.Figure == MedianTime {
		show = microseconds
	}
	return show(c.OfValue) + " : " + show(c.OverValue)
}
