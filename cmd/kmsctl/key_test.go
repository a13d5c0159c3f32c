package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// times stand for what differs from run to run.
var times = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

func TestKeyTables(t *testing.T) {
	w := newWorld(t)
	w.ok(words("namespace create shop")...)
	w.ok(words("key create shop/cards --profile strict --rotation-period 720h --label team=pay --label a=")...)
	w.ok(words("key create orders")...)

	got := times.ReplaceAllString(w.ok(words("key get shop/cards")...), "TIME")
	want := `name             cards
resource         namespaces/shop/keys/cards
purpose          ENCRYPT_DECRYPT
algorithm        AES_256
profile          STRICT
primary          1
state            ENABLED
versions         1
rotation period  720h0m0s
created          TIME
rotated          TIME
next rotation    TIME
labels           a=,team=pay
`
	if diff := cmp.Diff(want, withoutEtag(got)); diff != "" {
		t.Error(diff)
	}
	got = times.ReplaceAllString(w.ok(words("key list -n shop")...), "TIME")
	want = `NAME   PURPOSE          ALGORITHM  PROFILE  PRIMARY  STATE    VERSIONS  CREATED  LABELS
cards  ENCRYPT_DECRYPT  AES_256    STRICT   1        ENABLED  1         TIME     a=,team=pay
`
	if diff := cmp.Diff(strings.Fields(want), strings.Fields(got)); diff != "" {
		t.Error(diff)
	}
	if got := w.ok(words("namespace list")...); !strings.Contains(got, "default") || !strings.Contains(got, "shop") {
		t.Errorf("namespaces:\n%s", got)
	}
	if got := w.ok(words("namespace get namespaces/shop")...); !strings.Contains(got, "namespaces/shop") {
		t.Errorf("namespace:\n%s", got)
	}
	w.ok(words("namespace create empty")...)
	if got := w.ok(words("key list --namespace empty")...); got != "" {
		t.Errorf("no keys: %q", got)
	}
}

func withoutEtag(table string) string {
	lines := strings.SplitAfter(table, "\n")
	kept := lines[:0]
	for _, line := range lines {
		if !strings.HasPrefix(line, "etag") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func TestKeyStructured(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	var list, same []map[string]any
	if err := json.Unmarshal([]byte(w.ok(words("key list -o json")...)), &list); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(w.ok(words("key list -o yaml")...)), &same); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || len(same) != 1 {
		t.Fatalf("%d and %d keys", len(list), len(same))
	}
	for name, want := range map[string]any{
		"name":               "namespaces/default/keys/orders",
		"purpose":            "PURPOSE_ENCRYPT_DECRYPT",
		"protection_profile": "PROTECTION_PROFILE_DERIVED",
		"primary_version":    "namespaces/default/keys/orders/versions/1",
		"primary_state":      "KEY_VERSION_STATE_ENABLED",
	} {
		if list[0][name] != want || same[0][name] != want {
			t.Errorf("%s: %v and %v, want %v", name, list[0][name], same[0][name], want)
		}
	}
	if list[0]["version_count"] != 1.0 || same[0]["version_count"] != 1 {
		t.Errorf("version_count: %v and %v", list[0]["version_count"], same[0]["version_count"])
	}
	if labels, ok := list[0]["labels"].(map[string]any); !ok || len(labels) != 0 {
		t.Errorf("a field without value is there too: labels %v", list[0]["labels"])
	}
	w.ok(words("namespace create empty")...)
	if got := w.ok(words("key list -n empty -o json")...); got != "[]\n" {
		t.Errorf("no keys: %q", got)
	}
}

func TestKeyUpdate(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders --label team=pay --label draft=yes --rotation-period 24h")...)
	w.ok(words("key update orders --label team=risk --label tier=1 --remove-label draft")...)
	got := w.ok(words("key get orders")...)
	if !strings.Contains(got, "team=risk,tier=1\n") || !strings.Contains(got, "24h0m0s") {
		t.Errorf("after the labels:\n%s", got)
	}
	got = w.ok(words("key update orders --rotation-period 0")...)
	if !strings.Contains(got, "team=risk,tier=1\n") || !regexp.MustCompile(`rotation period +none\n`).MatchString(got) {
		t.Errorf("after the period:\n%s", got)
	}
	w.fails(exitUsage, words("key update orders"), "nothing to change")
	w.fails(exitUsage, words("key update orders --remove-label draft"), `no label "draft"`)
	w.fails(exitFailure, words("key update orders --label BAD=1"), "INVALID_REQUEST")
}

func TestKeyErrors(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	w.fails(exitFailure, words("key create orders"), "KEY_EXISTS", "kmsctl rotate")
	w.fails(exitFailure, words("key get invoices"), "KEY_NOT_FOUND", "What to do: ", "kmsctl key list")
	w.fails(exitFailure, words("key get none/orders"), "(", "What to do: ")
	w.fails(exitFailure, words("namespace create default"), "NAMESPACE_EXISTS")
	w.fails(exitUsage, words("key create x --profile FAST"), "DERIVED or STRICT")
	w.fails(exitUsage, words("key create x --algorithm ROT13"), "AES_256")
	w.fails(exitUsage, words("key create x --purpose UNSPECIFIED"), "ENCRYPT_DECRYPT")
	w.fails(exitUsage, words("key create x --label team"), "KEY=VALUE")
	w.fails(exitUsage, words("key create x --label a=1 --label a=2"), "twice")
	w.fails(exitUsage, words("key create x --rotation-period -1h"), "positive")
	w.fails(exitUsage, words("key create Orders"), `"Orders"`)
}

func TestVersions(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	if got := w.ok(words("rotate orders")...); !regexp.MustCompile(`version +2\n`).MatchString(got) {
		t.Errorf("rotate:\n%s", got)
	}
	w.fails(exitUsage, words("disable orders/1"), "--yes")
	w.fails(exitUsage, words("revoke orders/1 --yes"), "--reason")

	got := w.ok("disable", "orders/1", "--yes", "--reason", "an audit\x1b[31m")
	if !strings.Contains(got, "DISABLED") || !strings.Contains(got, `an audit\x1b[31m`) ||
		strings.Contains(got, "\x1b") {
		t.Errorf("disable: %q", got)
	}
	if got := w.ok(words("enable orders/versions/1")...); !strings.Contains(got, "ENABLED") {
		t.Errorf("enable:\n%s", got)
	}
	w.ok("encrypt", "orders", "--in", w.write("plain", "x"), "--out", w.file("cipher"))
	w.fails(exitFailure, words("revoke orders/2 --reason leak -y"), "DATA_LOSS_NOT_ACCEPTED", "--accept-data-loss")
	got = w.ok(words("revoke orders/2 --reason leak --accept-data-loss -y -o json")...)
	var change struct {
		Version struct {
			State  string `json:"state"`
			Reason string `json:"state_reason"`
		} `json:"version"`
		TokenSwitch string `json:"token_switch"`
	}
	if err := json.Unmarshal([]byte(got), &change); err != nil {
		t.Fatal(err)
	}
	if change.Version.State != "KEY_VERSION_STATE_REVOKED" || change.Version.Reason != "leak" ||
		change.TokenSwitch != "TOKEN_SWITCH_DONE" {
		t.Errorf("revoke: %+v", change)
	}
	w.fails(exitFailure, []string{"decrypt", "--in", w.file("cipher")}, "KEY_VERSION_REVOKED", "leak")
	w.fails(exitFailure, words("enable orders/2"), "STATE_TRANSITION_NOT_ALLOWED")
	w.fails(exitFailure, words("enable orders/9"), "KEY_VERSION_NOT_FOUND", "kmsctl key versions")
	if got := w.ok(words("key versions orders")...); strings.Count(got, "\n") != 3 || !strings.Contains(got, "REVOKED") {
		t.Errorf("versions:\n%s", got)
	}
}

func TestConfirm(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	w.terminal = true
	args := words("revoke orders/1 --reason test")
	w.failsWith("no\n", exitFailure, args, "was never used", "primary version", "for ever", "not confirmed")
	w.failsWith("", exitFailure, args, "not confirmed")
	if got := w.okWith("yes\n", args...); !strings.Contains(got, "REVOKED") {
		t.Errorf("revoke:\n%s", got)
	}
}

// What does not exist is to be made where that helps, by the command that does it.
func TestAdviceToMakeIt(t *testing.T) {
	w := newWorld(t)
	w.ok(words("import-job create laptop")...)
	w.ok(words("key create orders")...)
	w.write("data", strings.Repeat("k", 32))
	for line, advice := range map[string]string{
		"encrypt new --in DATA":                             `or make it with "kmsctl key create"`,
		"encrypt orders/1 --in DATA":                        "Name the key as orders: orders/1 is the key 1 of namespace orders here",
		"datakey generate new":                              `or make it with "kmsctl key create"`,
		"key import new --job laptop --in DATA":             `version by --create`,
		"key import orders --job laptop --in DATA --create": `Leave out --create`,
		"key import orders --job other --in DATA":           `kmsctl import-job create`,
		"key create missing/new":                            `kmsctl namespace create`,
		"key create orders":                                 `kmsctl rotate KEY`,
		"key get new":                                       `See which there are with "kmsctl key list"; --namespace`,
		"rotate new":                                        `See which there are with "kmsctl key list"; --namespace`,
		"mac verify new --mac DATA --in DATA":               `See which there are with "kmsctl key list"; --namespace`,
		"key list -n missing":                               `See which there are with "kmsctl namespace list".` + "\n",
	} {
		w.fails(exitFailure, words(strings.ReplaceAll(line, "DATA", w.file("data"))), advice)
	}
}
