package main

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

func TestRestrict(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	w.ok("encrypt", "orders", "--in", w.write("plain", "x"), "--out", w.file("cipher"))
	got := w.ok("rotate", "orders", "--restrict-previous", "--reason", "backup stolen", "-y")
	for _, want := range []string{`version +2\n`, `restricted +1\n`, `replicas +the only replica knows it; took \d`} {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("rotate: no %q in\n%s", want, got)
		}
	}
	w.fails(exitFailure, []string{"decrypt", "--in", w.file("cipher")}, "KEY_VERSION_REWRAP_ONLY", "backup stolen", "kmsctl rewrap")
	if got := w.ok(words("key versions orders")...); !strings.Contains(got, "REWRAP_ONLY") {
		t.Errorf("versions:\n%s", got)
	}
	w.ok(words("enable orders/1")...)
	if got := w.ok("restrict", "orders/1", "--reason", "again", "-y"); !strings.Contains(got, "REWRAP_ONLY") {
		t.Errorf("restrict:\n%s", got)
	}

	const id = "b9d4b3f8-5f0e-4b1c-8c43-0d0c6f2f3b11"
	for range 2 {
		if got := w.ok("rotate", "orders", "--request-id", id); !regexp.MustCompile(`version +3\n`).MatchString(got) {
			t.Errorf("a rotation repeated with its id:\n%s", got)
		}
	}
}

func TestDestruction(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	w.ok("encrypt", "orders", "--in", w.write("plain", "x"), "--out", w.file("cipher"))
	w.ok("decrypt", "--in", w.file("cipher"), "--out", w.file("back"))
	w.ok(words("rotate orders")...)
	schedule := words("schedule-destruction orders/1 --reason old --window 48h -y")
	w.fails(exitFailure, schedule, "DATA_LOSS_NOT_ACCEPTED", "--accept-data-loss")
	w.fails(exitFailure, words("schedule-destruction orders/1 --reason old --window 1m -y"), "window")
	got := w.ok(append(schedule, "--accept-data-loss")...)
	for _, want := range []string{`state +DESTROY_SCHEDULED\n`, `destruction +20`, `restored as +DISABLED\n`, `HSM object +switched`} {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("schedule-destruction: no %q in\n%s", want, got)
		}
	}
	w.fails(exitFailure, []string{"decrypt", "--in", w.file("cipher")}, "KEY_VERSION_DESTROY_SCHEDULED", "kmsctl restore")
	if got := w.ok(words("restore orders/1 --reason needed")...); !strings.Contains(got, "DISABLED") {
		t.Errorf("restore:\n%s", got)
	}
	w.ok(words("enable orders/1")...)
	w.ok("decrypt", "--in", w.file("cipher"), "--out", w.file("back"), "--force")
	w.ok(words("restrict orders/1 -y")...)
	w.fails(exitFailure, append(schedule, "--accept-data-loss"), "STATE_TRANSITION_NOT_ALLOWED", "kmsctl disable")
}

// Usage is shown in lists, in full with -o wide, and before harm is done.
func TestUsage(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	w.ok(words("datakey generate orders --count 3")...)
	w.okWith("x", words("encrypt orders --remote")...)
	got := w.ok(words("key versions orders")...)
	if !regexp.MustCompile(`USES +LAST USED`).MatchString(got) || !regexp.MustCompile(` 4 +20\d\d-`).MatchString(got) {
		t.Errorf("versions:\n%s", got)
	}
	usage := regexp.MustCompile(`4 uses, last at 20\S+: Encrypt 1, GenerateDataKeys 3`)
	if got := w.ok(words("key versions orders -o wide")...); !usage.MatchString(got) || !strings.Contains(got, "RESOURCE") {
		t.Errorf("wide:\n%s", got)
	}
	var versions []struct {
		Usage []struct{ Action, Count string }
	}
	w.must(json.Unmarshal([]byte(w.ok(words("key versions orders -o json")...)), &versions))
	if len(versions) != 1 || len(versions[0].Usage) != 2 || versions[0].Usage[1].Count != "3" {
		t.Errorf("json: %+v", versions)
	}
	w.terminal = true
	args := words("schedule-destruction orders/1 --reason old --accept-data-loss")
	_, stderr, code := w.exit("no\n", args...)
	if code != exitFailure || !usage.MatchString(stderr) || !strings.Contains(stderr, "not confirmed") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

func TestReplicas(t *testing.T) {
	w := newWorld(t)
	got := w.ok(words("replicas")...)
	if !regexp.MustCompile(`NAME +ID? .*LAG .*LIVE +SINCE +ANSWERS`).MatchString(got) || strings.Count(got, "\n") != 2 {
		t.Errorf("replicas:\n%s", got)
	}
	var replicas []map[string]any
	w.must(json.Unmarshal([]byte(w.ok(words("replicas -o json")...)), &replicas))
	if len(replicas) != 1 || replicas[0]["self"] != true || replicas[0]["live"] != true || replicas[0]["lag"] != "0" {
		t.Errorf("json: %v", replicas)
	}
}

func TestStoreCommands(t *testing.T) {
	w := newWorld(t)
	w.ok(words("namespace create shop")...)
	before := w.ok(words("store verify")...)
	if !strings.Contains(before, "2 namespaces") || strings.Contains(before, "problem") {
		t.Errorf("verify:\n%s", before)
	}
	empty := w.file("empty.khb")
	if got := w.ok("store", "backup", empty); !strings.Contains(got, "2 namespaces") {
		t.Errorf("backup:\n%s", got)
	}
	if info, err := os.Stat(empty); err != nil || info.Mode() != 0o600 || info.Size() == 0 {
		t.Errorf("the backup: %v, %v", info, err)
	}
	w.fails(exitFailure, []string{"store", "backup", empty}, "exists", "--force")
	w.ok("store", "backup", empty, "--force")
	if got := w.ok("store", "backup", "-"); !strings.Contains(got, "shop") && len(got) < 100 {
		t.Errorf("a backup to standard output has %d bytes", len(got))
	}
	w.fails(exitUsage, []string{"store", "backup", w.dir}, "is a directory")

	w.fails(exitFailure, []string{"store", "restore", w.write("nonsense", "x"), "--reason", "test", "-y"}, "INVALID_REQUEST")
	w.fails(exitFailure, []string{"store", "restore", w.file("none"), "--reason", "test", "-y"}, "no such file")
	w.ok(words("key create orders")...)
	w.fails(exitFailure, []string{"store", "restore", empty, "--reason", "test", "--accept-rollback", "-y"}, "STORE_NOT_EMPTY")

	after := w.ok(words("store reseal --reason yearly")...)
	key := regexp.MustCompile(`seal key +([0-9a-f]{32})`)
	if a, b := key.FindString(before), key.FindString(after); a == "" || b == "" || a == b {
		t.Errorf("seal keys %q and %q", a, b)
	}
	w.ok(words("store verify -o json")...)
	w.noLeftovers()
}

func TestOrphans(t *testing.T) {
	w := newWorld(t)
	if stdout, stderr, code := w.exit("", words("hsm orphans")...); stdout != "" || code != exitOK || stderr != "kmsctl: there are none\n" {
		t.Errorf("orphans of a new service: exit code %d\n%s%s", code, stdout, stderr)
	}
	if got := w.ok(words("hsm orphans --delete --reason none -y -o json")...); got != "[]\n" {
		t.Errorf("deleted: %q", got)
	}
	w.fails(exitUsage, words("hsm orphans 00 --delete --reason none -y"), "is no orphan")

	storeID := regexp.MustCompile(`store +([0-9a-f]{16})`).FindStringSubmatch(w.ok(words("store verify")...))[1]
	left := []hsm.UID{{0xab, 1}, {0xab, 2}}
	for _, uid := range left {
		_, err := w.token.GenerateKey(t.Context(), uid, "keyholt:"+storeID+":1700000000", hsm.AES256GCM)
		w.must(err)
	}
	one, other := left[0].String(), left[1].String()
	got := w.ok(words("hsm orphans")...)
	if !strings.Contains(got, one) || !strings.Contains(got, other) || !strings.Contains(got, "AES256_GCM") || strings.Contains(got, "DESTRUCTION") {
		t.Errorf("orphans:\n%s", got)
	}
	got = w.ok("hsm", "orphans", strings.ToUpper(one), "--delete", "--reason", "left by a crash", "--window", "48h", "-y")
	if !strings.Contains(got, "DESTRUCTION") || !strings.Contains(got, one) || strings.Contains(got, other) {
		t.Errorf("to be deleted:\n%s", got)
	}
	w.fails(exitFailure, words("hsm orphans --delete --reason now --window 1s -y"), "window")
	w.terminal = true
	w.failsWith("no\n", exitFailure, words("hsm orphans --delete --reason again"), one, other, "2 HSM objects", "not confirmed")
}

// spreading answers the first calls with COMMITTED_STILL_SPREADING.
type spreading struct {
	kms.API
	left     int
	requests []string
}

func (s *spreading) still() error {
	if s.left--; s.left < 0 {
		return nil
	}
	return &kms.Error{Sentinel: kms.ErrStillSpreading, Metadata: map[string]string{"revision": "17"}}
}

func (s *spreading) DisableKeyVersion(context.Context, kms.Principal, kms.VersionName, string) (*kms.StateChange, error) {
	return &kms.StateChange{Version: &kms.VersionInfo{}, Spread: kms.Spread{
		Acknowledged: []string{"a:1", "b:2", "c:3"}, Expired: []string{"d:4"}, Took: 1520 * time.Millisecond,
	}}, s.still()
}

func (s *spreading) RotateKey(_ context.Context, _ kms.Principal, r *kms.RotateKeyRequest) (*kms.RotateKeyResult, error) {
	s.requests = append(s.requests, r.RequestID)
	return &kms.RotateKeyResult{Version: &kms.VersionInfo{}, Key: &kms.KeyInfo{}, Spread: kms.Spread{
		Acknowledged: []string{"a:1", "b:2", "c:3", "d:4"}, Took: 30 * time.Millisecond,
	}}, s.still()
}

// A change that is committed and still spreading is waited for by repeating the call.
func TestSpreading(t *testing.T) {
	w := &world{T: t, dir: t.TempDir()}
	api := &spreading{left: 3}
	w.serve(api)
	stdout, stderr, code := w.exit("", words("disable orders/1 -y")...)
	if code != exitOK || !strings.Contains(stdout, "3 acknowledged, 1 held no lease (d:4); took 1.52 s") ||
		strings.Count(stderr, "committed at revision 17") != 1 {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	api.left = 2
	if got := w.ok(words("rotate orders")...); !strings.Contains(got, "all 4 replicas know it; took 30 ms") {
		t.Errorf("rotate:\n%s", got)
	}
	if len(api.requests) != 3 || api.requests[0] == "" || api.requests[0] != api.requests[1] || api.requests[1] != api.requests[2] {
		t.Errorf("request ids %q", api.requests)
	}
	api.left = 1 << 30
	w.fails(exitFailure, words("disable orders/1 -y --timeout 1s"), "COMMITTED_STILL_SPREADING", "Repeat the command", "kmsctl replicas")
	w.fails(exitFailure, words("rotate orders --timeout 1s"), "COMMITTED_STILL_SPREADING", "--request-id ")
}
