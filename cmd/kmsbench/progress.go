package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/keyholt/keyholt/bench"
)

// progress shows what happens: on a terminal in one line, elsewhere a line each.
type progress struct {
	w        io.Writer
	terminal bool
	width    int
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			p.terminal, p.width = true, width
		}
	}
	return p
}

func (p *progress) show(e bench.Event) {
	line := []rune(fmt.Sprintf("[%*d/%d] %s", len(fmt.Sprint(e.Total)), e.Done, e.Total, e.Text))
	if !p.terminal {
		_, _ = fmt.Fprintln(p.w, string(line))
		return
	}
	if len(line) >= p.width {
		line = line[:p.width-1]
	}
	_, _ = fmt.Fprintf(p.w, "\r\x1b[K%s", string(line))
}

// end clears the line.
func (p *progress) end() {
	if p.terminal {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}
