#!/usr/bin/env bash
# The main job, with the real binaries on a SoftHSM2 token made for the occasion. `make demo` builds
# the binaries into bin/ first. Everything lives in a temporary directory that is deleted at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=$PWD/bin
work=$(mktemp -d)
export KEYHOLT_PROFILE=$work/data/profile.yaml
kmsd_pid=

step() { printf '\n== %s\n' "$*"; }
fail() { printf 'demo: FAILED: %s\n' "$*" >&2; exit 1; }

# shellcheck disable=SC2329 # called by the trap
finish() {
	local status=$?
	[ -z "$kmsd_pid" ] || kill "$kmsd_pid" 2>/dev/null || true
	if [ "$status" -ne 0 ] && [ -s "$work/kmsd.log" ]; then
		echo "demo: the last lines of kmsd's log:" >&2
		tail -n 20 "$work/kmsd.log" >&2
	fi
	rm -rf "$work"
}
trap finish EXIT

step "Start kmsd on a new SoftHSM2 token"
"$bin/kmsd" dev --data-dir "$work/data" >"$work/kmsd.out" 2>"$work/kmsd.log" &
kmsd_pid=$!
for _ in $(seq 300); do
	grep -q '^kmsd is ready' "$work/kmsd.out" && break
	kill -0 "$kmsd_pid" 2>/dev/null || fail "kmsd did not start"
	sleep 0.1
done
grep -q '^kmsd is ready' "$work/kmsd.out" || fail "kmsd is not ready after 30 s"
cat "$work/kmsd.out"
"$bin/kmsctl" doctor

step "Create a key; it is made inside the token and cannot leave it"
"$bin/kmsctl" key create records
uid=$("$bin/kmsctl" key versions records --output json | sed -n 's/.*"uid": *"\([0-9a-f]*\)".*/\1/p' | head -n 1)
[ "${#uid}" -eq 32 ] || fail "the key version has no UID: $uid"

step "Encrypt a 100 MB file and get it back byte for byte"
# The sources of the Go distribution, as one stream, cut at 100 MB (repeated if they are shorter).
goroot=$(go env GOROOT)
for _ in 1 2 3; do tar -C "$goroot" -cf - src || true; done 2>/dev/null | head -c 100000000 >"$work/big" || true
[ "$(wc -c <"$work/big")" -eq 100000000 ] || fail "the file has not 100,000,000 bytes"
"$bin/kmsctl" encrypt records --in "$work/big" --out "$work/big.enc" --context file=big
"$bin/kmsctl" decrypt records --in "$work/big.enc" --out "$work/big.dec" --context file=big
cmp "$work/big" "$work/big.dec" || fail "the file came back changed"
cmp -s "$work/big" "$work/big.enc" && fail "the file was not encrypted"
echo "100,000,000 bytes came back byte for byte"

step "10,000 records, each encrypted under its own data key"
CGO_ENABLED=0 go build -trimpath -o "$work/records" ./softhsm-test/demo/records
"$work/records" make "$work/records.csv"
"$work/records" seal "$work/records.csv" "$work/records.sealed"
"$work/records" open "$work/records.csv" "$work/records.sealed"

step "Rotate: old data still opens, new data uses version 2"
"$bin/kmsctl" rotate records
"$work/records" open "$work/records.csv" "$work/records.sealed"
"$work/records" seal "$work/records.csv" "$work/records.sealed2"
"$work/records" open "$work/records.csv" "$work/records.sealed2" | tee "$work/version2"
grep -q '^10000 of them under .*/versions/2$' "$work/version2" || fail "new data does not use version 2"

step "Rewrap: the data keys of the old records move to version 2, the records stay as they are"
awk 'NR <= 1000 { print $1 }' "$work/records.sealed" >"$work/old-keys"
"$bin/kmsctl" datakey rewrap --context table=records <"$work/old-keys" >"$work/new-keys"
[ "$(wc -l <"$work/new-keys")" -eq 1000 ] || fail "not every data key was rewrapped"
echo "1,000 data keys rewrapped"

step "Revoke version 1"
if "$bin/kmsctl" revoke records/1 --reason "suspected compromise" --yes 2>"$work/refused"; then
	fail "a version in use was revoked without accepting the loss of data"
fi
cat "$work/refused"
"$bin/kmsctl" revoke records/1 --reason "suspected compromise" --accept-data-loss --yes

step "What version 1 protects is refused, with reason and time; what was rewrapped opens"
if "$work/records" open "$work/records.csv" "$work/records.sealed" 2>"$work/refused"; then
	fail "a revoked version opened old records"
fi
cat "$work/refused"
grep -q 'REVOKED since 20..-..-..T..:..:..Z: suspected compromise' "$work/refused" || fail "the refusal does not give reason and time"
if "$bin/kmsctl" decrypt records --in "$work/big.enc" --out "$work/refused-file" --context file=big 2>"$work/refused"; then
	fail "a revoked version opened the file"
fi
cat "$work/refused"
[ ! -e "$work/refused-file" ] || fail "the refused decryption left a file"
"$bin/kmsctl" datakey unwrap --context table=records <"$work/new-keys" >"$work/unwrapped"
"$work/records" open "$work/records.csv" "$work/records.sealed2"

step "Ask the token itself, with pkcs11-tool"
module=$(sed -n 's/.*pkcs11-tool --module \([^ ]*\).*/\1/p' "$work/kmsd.out")
SOFTHSM2_CONF=$work/data/softhsm/softhsm2.conf PIN=$(cat "$work/data/pin") \
	pkcs11-tool --module "$module" --token-label keyholt-dev --login --pin env:PIN \
	--list-objects --type secrkey >"$work/objects" 2>"$work/pkcs11-tool.err" || { cat "$work/pkcs11-tool.err"; fail "pkcs11-tool"; }
# The paragraph of the object that version 1 is.
awk -v id="$uid" '
	/^Secret Key Object/ { if (found) printf "%s", text; text = ""; found = 0 }
	{ text = text $0 "\n" }
	$1 == "ID:" && $2 == id { found = 1 }
	END { if (found) printf "%s", text }' "$work/objects" | tee "$work/object"
grep -q 'CKR_ATTRIBUTE_SENSITIVE' "$work/pkcs11-tool.err" || fail "the token did not refuse to show the value of a key"
grep -q 'Access:.*always sensitive' "$work/object" || fail "the token does not call the key always sensitive"
grep -q 'Access:.*never extractable' "$work/object" || fail "the token does not call the key never extractable"
grep -Eq 'Usage: *(none|$)' "$work/object" || fail "the revoked key can still be used in the token"
echo "sensitive, never extractable, and now of no use in the token either"

step "Stop kmsd"
kill -TERM "$kmsd_pid"
wait "$kmsd_pid" || fail "kmsd ended with status $?"
kmsd_pid=
echo "kmsd has drained and ended"

printf '\ndemo: ok\n'
