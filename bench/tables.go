package bench

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// PrintScenarios prints what every scenario reached: medians of the rounds.
func (r *Report) PrintScenarios(w io.Writer) error {
	t := newTable(table.Row{"scenario", "items/s", "requests/s", "p50", "p99", "p99.9", "CPU/item: kmsd", "client", "token calls/item"})
	group := ""
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		if s.Group != group {
			group = s.Group
			t.AppendSeparator()
		}
		t.AppendRow(table.Row{
			s.Name, number(s.Median.ItemsPerSecond), number(s.Median.RequestsPerSecond),
			microseconds(s.Median.P50), microseconds(s.Median.P99), microseconds(s.Median.P999),
			cpu(s.Median.ServerCPU), cpu(s.Median.ClientCPU), tokenCalls(s.Median.TokenCalls),
		})
	}
	if _, err := fmt.Fprintln(w, t.Render()); err != nil {
		return err
	}
	if busy := r.busy(); busy != "" {
		if _, err := fmt.Fprintln(w, busy); err != nil {
			return err
		}
	}
	return r.printFailures(w)
}

// quietShare is what the kernel's own work may take without a word.
const quietShare = 0.1

// busy says how many runs others disturbed; nothing if none.
func (r *Report) busy() string {
	runs, disturbed := 0, 0
	for i := range r.Scenarios {
		for k := range r.Scenarios[i].Rounds {
			runs++
			if r.Scenarios[i].Rounds[k].OthersCPU > quietShare {
				disturbed++
			}
		}
	}
	if disturbed == 0 {
		return ""
	}
	return fmt.Sprintf("The machine was busy: %d of %d runs lost more than %.0f%% of it to other processes.", disturbed, runs, quietShare*100)
}

func (r *Report) printFailures(w io.Writer) error {
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		if s.FirstFail == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s: requests failed, the first with: %s\n", s.Name, s.FirstFail); err != nil {
			return err
		}
	}
	return nil
}

// PrintClaims prints the claims, with the figures on both sides of each.
func (r *Report) PrintClaims(w io.Writer) error {
	if len(r.Claims) == 0 {
		return nil
	}
	t := newTable(table.Row{"ratio", "value", "wanted", "aim", "", "rounds", "medians"})
	for i := range r.Claims {
		c := &r.Claims[i]
		t.AppendRow(table.Row{c.Name, value(c.Value), c.bound(), value(c.Aim), c.verdict(), c.spread(), c.sides()})
	}
	_, err := fmt.Fprintln(w, t.Render())
	return err
}

// Passed reports whether every claim that was looked at holds and no request failed.
func (r *Report) Passed() bool {
	for i := range r.Claims {
		if !r.Claims[i].Pass {
			return false
		}
	}
	for i := range r.Scenarios {
		if r.Scenarios[i].FirstFail != "" {
			return false
		}
	}
	return true
}

// newTable is a plain table: the first column is text, the others are figures.
func newTable(header table.Row) table.Writer {
	t := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.AppendHeader(header)
	columns := make([]table.ColumnConfig, 0, len(header)-1)
	for i := 2; i <= len(header); i++ {
		columns = append(columns, table.ColumnConfig{Number: i, Align: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	return t
}

func cpu(us float64) string {
	if us == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3g µs", us)
}

func tokenCalls(v *float64) string {
	if v == nil {
		return "-"
	}
	return value(*v)
}
