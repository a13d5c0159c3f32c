package main

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func TestDoctor(t *testing.T) {
	w := newWorld(t)
	got := w.ok("doctor")
	for _, want := range []string{"connection", "unix socket", "SERVING", "v1.2.3", "clock", "token", "store"} {
		if !strings.Contains(got, want) {
			t.Errorf("does not say %q:\n%s", want, got)
		}
	}
	w.server.SetServing(false)
	stdout, stderr, code := w.exit("", "doctor", "-o", "json")
	if code != exitFailure || !strings.Contains(stderr, "checks failed") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	var findings []map[string]string
	w.must(json.Unmarshal([]byte(stdout), &findings))
	failed := map[string]string{}
	for _, f := range findings {
		if f["severity"] == "SEVERITY_ERROR" {
			failed[f["check"]] = f["detail"]
		}
	}
	if failed["server"] != "NOT_SERVING" || failed[kmsv1.CryptoService_ServiceDesc.ServiceName] != "NOT_SERVING" {
		t.Errorf("failed: %v", failed)
	}
}

// noRights is an authorizer for whom nobody is an administrator.
type noRights struct{}

func (noRights) Authorize(context.Context, *kms.Question) kms.Decision { return kms.Decision{} }

// TestDoctorRefused: who is no administrator sees whom the service takes them for, and
// that this is why there is no more to see.
func TestDoctorRefused(t *testing.T) {
	w := newWorldFor(t, noRights{})
	stdout, _, code := w.exit("", "doctor")
	if code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"unix:" + strconv.Itoa(os.Getuid()), "SERVING", "not an administrator", "as root or as the user that kmsd runs as"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("does not say %q:\n%s", want, stdout)
		}
	}
}

// TestRefusalSaysNothingOfKeys: the one message for what is refused fits whatever was
// asked for.
func TestRefusalSaysNothingOfKeys(t *testing.T) {
	w := newWorldFor(t, noRights{})
	for _, command := range []string{"namespace list", "key list", "key get orders", "random 16"} {
		w.fails(exitFailure, words(command), "it does not exist here, or you may not do this (NOT_ACCESSIBLE)")
	}
}

func TestExplainRefused(t *testing.T) {
	for want, p := range map[string]kms.Principal{
		"ask for x509:CN=ops,O=Example to be added to `administrators`": {Name: "x509:CN=ops,O=Example", Method: kms.MethodTLS},
		"as root or as the user that kmsd runs as":                      {Name: "unix:1000", Method: kms.MethodUnix},
		"ask an administrator":                                          {},
	} {
		if x := explainRefused(p); !strings.Contains(x.cause, "not an administrator") || !strings.Contains(x.next, want) {
			t.Errorf("%+v: %+v does not say %q", p, x, want)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	w := newWorld(t)
	none := "unix://" + w.file("none")
	w.fails(exitFailure, []string{"key", "list", "--address", none}, "there is no socket", "kmsd dev", profileVariable)
	stdout, _, code := w.exit("", "doctor", "--address", none)
	if code != exitFailure || !strings.Contains(stdout, "there is no socket") {
		t.Errorf("doctor: exit code %d\n%s", code, stdout)
	}
	w.write("plain", "x")
	w.fails(exitFailure, []string{"encrypt", "orders", "--in", w.file("plain"), "--out", w.file("out"), "--address", none},
		"there is no socket")
	if _, err := os.Stat(w.file("out")); !os.IsNotExist(err) {
		t.Error("there is an output file")
	}
}

func TestClock(t *testing.T) {
	before := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	after := before.Add(2 * time.Second)
	middle := before.Add(time.Second)
	for offset, want := range map[time.Duration]kmsv1.Finding_Severity{
		0:                   severityOK,
		6 * time.Second:     severityOK, // within 5 s, give or take one
		-7 * time.Second:    severityWarning,
		61 * time.Second:    severityWarning,
		62 * time.Second:    severityError,
		-3600 * time.Second: severityError,
	} {
		var d examination
		d.clock(before, middle.Add(offset), after)
		if got := d.findings[0].GetSeverity(); got != want {
			t.Errorf("%v: %v, want %v", offset, got, want)
		}
	}
}
