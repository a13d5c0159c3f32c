package main

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

// errDeclined is the failure of a command that its user did not confirm.
var errDeclined = errors.New("not confirmed; nothing was changed")

// confirm asks before a change that does harm. Without a terminal to ask at, --yes has
// to say it.
func (a *app) confirm(question string) error {
	if a.yes {
		return nil
	}
	if !a.terminal(a.stdin) {
		return usagef("standard input is not a terminal to confirm this at; add --yes if it is meant")
	}
	a.sayf("%s", question)
	a.sayf("Type \"yes\" to go on:")
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(answer) != "yes" {
		return errDeclined
	}
	return nil
}
