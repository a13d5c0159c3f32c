#!/usr/bin/env bash
# Runs every fuzz target of the module for FUZZTIME, one after another: the go command fuzzes one target of one
# package at a time. Finding no target at all is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
FUZZTIME=${FUZZTIME:-10s}

targets=$(grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' . --exclude-dir=tools --exclude-dir=bin |
  sed -E 's|/[^/]*:func (Fuzz[A-Za-z0-9_]*)\(| \1|' | sort) || {
  echo "fuzz: no fuzz target found" >&2
  exit 1
}

while read -r package target; do
  echo "== $package $target"
  # Not from the loop's standard input, which holds the remaining targets.
  "$GO" test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" "$package" </dev/null
done <<<"$targets"
