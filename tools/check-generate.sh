#!/usr/bin/env bash
# Generates everything anew in a copy of the work tree and compares: committed or not, a file that `make generate`
# would change, add or remove is a difference. The work tree itself is not touched.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/before" "$scratch/after"
tar -cf - --exclude=./.git --exclude=./bin --exclude=./bench/out --exclude=./.demo . | tar -xf - -C "$scratch/before"
cp -Rp "$scratch/before/." "$scratch/after/"
ln -s "$PWD/bin" "$scratch/after/bin"

make -C "$scratch/after" generate >"$scratch/log" 2>&1 || {
  cat "$scratch/log" >&2
  exit 1
}
rm "$scratch/after/bin"
if ! diff -ru "$scratch/before" "$scratch/after"; then
  echo "check-generate: generated files are not what 'make generate' makes: run it and commit the result" >&2
  exit 1
fi
