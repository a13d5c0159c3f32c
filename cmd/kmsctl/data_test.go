package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/envelope"
)

func TestEncryptFiles(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	for _, plaintext := range []string{"", "short", strings.Repeat("0123456789", 300_000)} {
		plain := w.write("plain", plaintext)
		w.ok("encrypt", "orders", "--in", plain, "--out", w.file("cipher"), "--context", "a=b=c", "--context", "d=")
		if got := w.read("cipher"); !strings.HasPrefix(got, "KEYHOLT\x01") {
			t.Fatalf("begins with %.10q", got)
		}
		w.ok("decrypt", "orders", "--in", w.file("cipher"), "--out", w.file("back"), "--context", "d=",
			"--context", "a=b=c")
		if w.read("back") != plaintext {
			t.Errorf("%d bytes come back changed", len(plaintext))
		}
		for _, name := range []string{"cipher", "back"} {
			info, err := os.Stat(w.file(name))
			w.must(err)
			if info.Mode() != 0o600 {
				t.Errorf("%s has mode %v", name, info.Mode())
			}
			w.must(os.Remove(w.file(name)))
		}
	}
	w.noLeftovers()
}

func (w *world) noLeftovers() {
	w.Helper()
	partial, err := filepath.Glob(w.file(".*"))
	w.must(err)
	if len(partial) > 0 {
		w.Errorf("left behind: %v", partial)
	}
}

func TestEncryptStreams(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	for _, flags := range []string{"", "--remote"} {
		ciphertext := w.okWith("attack at dawn", words("encrypt orders "+flags)...)
		if got := w.okWith(ciphertext, words("decrypt "+flags)...); got != "attack at dawn" {
			t.Errorf("%s: got %q", flags, got)
		}
		if got := w.okWith(ciphertext, words("decrypt orders --in - --out -")...); got != "attack at dawn" {
			t.Errorf("%s: got %q", flags, got)
		}
	}
	ciphertext := w.okWith("", words("encrypt orders --remote")...)
	if got := w.okWith(ciphertext, "decrypt"); got != "" || !strings.HasPrefix(ciphertext, "KH\x01\x01") {
		t.Errorf("got %q from %.4q", got, ciphertext)
	}
}

func TestEncryptLeavesFilesAlone(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	plain := w.write("plain", "new")
	exists := w.write("exists", "old")
	w.fails(exitFailure, []string{"encrypt", "orders", "--in", plain, "--out", exists}, "exists", "--force")
	if w.read("exists") != "old" {
		t.Error("the file was replaced")
	}
	w.must(os.Symlink(exists, w.file("link")))
	w.ok("encrypt", "orders", "--in", plain, "--out", w.file("link"), "--force")
	if info, err := os.Lstat(w.file("link")); err != nil || info.Mode().IsRegular() {
		t.Errorf("the link was replaced: %v, %v", info.Mode(), err)
	}
	if !strings.HasPrefix(w.read("exists"), "KEYHOLT") {
		t.Error("the file was not replaced")
	}
	// In place: input and output are the same file.
	w.ok("decrypt", "--in", exists, "--out", exists, "--force")
	if w.read("exists") != "new" {
		t.Error("decryption in place")
	}
	w.ok("encrypt", "orders", "--in", plain, "--out", os.DevNull)
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Errorf("%s was replaced", os.DevNull)
	}
	w.fails(exitUsage, []string{"encrypt", "orders", "--in", plain, "--out", w.dir}, "directory")
	w.fails(exitUsage, []string{"encrypt", "orders", "--in", w.dir}, "directory")
	w.fails(exitFailure, []string{"encrypt", "orders", "--in", w.file("none")}, "no such file")
	w.fails(exitFailure, []string{"encrypt", "orders", "--in", plain, "--out", w.file("none/x")}, "no such file")
	w.noLeftovers()
}

func TestDecryptRefuses(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	w.ok(words("key create other")...)
	w.ok(words("namespace create shop")...)
	file := w.okWith(strings.Repeat("x", 2_500_000), words("encrypt orders --context a=b")...)
	blob := w.okWith("small", words("encrypt orders --context a=b --remote")...)
	flip := func(s string, at int) string { return s[:at] + string(s[at]^1) + s[at+1:] }
	wrapped, err := base64.StdEncoding.DecodeString(strings.TrimSpace(w.ok(words("datakey generate orders")...)))
	w.must(err)
	tests := map[string]struct {
		input, args string
		code        int
		want        string
	}{
		"empty":                 {"", "", exitFailure, "empty"},
		"not ours":              {"-----BEGIN PGP MESSAGE-----", "", exitFailure, "neither"},
		"one byte":              {"K", "", exitFailure, "neither"},
		"file cut off":          {file[:2_000_000], "", exitFailure, "does not authenticate"},
		"file cut in header":    {file[:60], "", exitFailure, "ends within"},
		"file changed":          {flip(file, 1_500_000), "", exitFailure, "does not authenticate"},
		"file's key changed":    {flip(file, 60), "", exitFailure, "What to do"},
		"blob cut off":          {blob[:30], "", exitFailure, "MALFORMED_CIPHERTEXT"},
		"blob changed":          {flip(blob, len(blob)-1), "", exitFailure, "DECRYPTION_FAILED"},
		"blob too long":         {blob + strings.Repeat("x", envelope.MaxBlobSize), "", exitFailure, "longer than"},
		"wrapped data key":      {string(wrapped), "", exitFailure, "WRONG_CIPHERTEXT_KIND"},
		"file, other context":   {file, "--context a=c", exitFailure, "DECRYPTION_FAILED"},
		"blob, more context":    {blob, "--context d=e", exitFailure, "DECRYPTION_FAILED"},
		"other key":             {file, "other", exitFailure, "KEY_MISMATCH"},
		"blob, other key":       {blob, "other", exitFailure, "KEY_MISMATCH"},
		"other namespace":       {file, "-n shop", exitFailure, "NOT_ACCESSIBLE"},
		"file, asked for blobs": {file, "--remote", exitFailure, "leave out --remote"},
		"bad key":               {file, "a/b/c", exitUsage, "want KEY"},
	}
	for name, test := range tests {
		w.write("input", test.input)
		args := append([]string{"decrypt", "--in", w.file("input"), "--out", w.file("out"), "--context", "a=b"},
			words(test.args)...)
		if strings.Contains(test.args, "--context a=") {
			args = append([]string{"decrypt", "--in", w.file("input"), "--out", w.file("out")}, words(test.args)...)
		}
		t.Log(name)
		w.fails(test.code, args, test.want)
		if _, err := os.Stat(w.file("out")); !os.IsNotExist(err) {
			t.Errorf("%s: there is an output file", name)
		}
	}
	w.noLeftovers()
}

// To standard output a part may have gone when the end turns out to be missing: it is
// authentic, and the exit code says that it is not all.
func TestDecryptCutOffStream(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	plaintext := strings.Repeat("0123456789", 250_000)
	file := w.okWith(plaintext, words("encrypt orders")...)
	stdout, stderr, code := w.exit(file[:2_000_000], "decrypt")
	if code != exitFailure || !strings.HasPrefix(plaintext, stdout) || len(stdout) >= len(plaintext) ||
		!strings.Contains(stderr, "it is not all") {
		t.Errorf("exit code %d, %d bytes, %s", code, len(stdout), stderr)
	}
}

func TestEncryptUsage(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	w.fails(exitUsage, words("encrypt"), "want: kmsctl encrypt KEY")
	w.fails(exitUsage, words("encrypt orders -o json"), "--output does not apply")
	w.fails(exitUsage, words("encrypt orders --context x"), "KEY=VALUE")
	w.fails(exitUsage, words("encrypt orders --context =x"), "KEY=VALUE")
	w.fails(exitFailure, words("encrypt orders --context keyholt.x=y"), "INVALID_REQUEST")
	w.failsWith(strings.Repeat("x", envelope.MaxPlaintextSize+1), exitFailure, words("encrypt orders --remote"),
		"longer than 65536 bytes", "leave out --remote")
	w.terminal = true
	w.fails(exitUsage, words("encrypt orders"), "--out")
}

func TestDataKeys(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	w.ok(words("key create other")...)

	wrapped := w.ok("datakey", "generate", "orders", "--count", "3", "--context", "a=b",
		"--plaintext-out", w.file("keys"))
	if strings.Count(wrapped, "\n") != 3 {
		t.Fatalf("wrapped keys:\n%s", wrapped)
	}
	keys := w.read("keys")
	if info, err := os.Stat(w.file("keys")); err != nil || info.Mode() != 0o600 {
		t.Errorf("plaintext keys: %v, %v", info, err)
	}
	if got := w.okWith(wrapped, words("datakey unwrap --context a=b")...); got != keys {
		t.Errorf("unwrapped:\n%s\nwant\n%s", got, keys)
	}
	w.ok(words("rotate orders")...)
	rewrapped := w.okWith(wrapped, words("datakey rewrap orders --context a=b")...)
	if rewrapped == wrapped || strings.Count(rewrapped, "\n") != 3 {
		t.Errorf("rewrapped:\n%s", rewrapped)
	}
	got := w.okWith(rewrapped, "datakey", "unwrap", "--context", "a=b", "--plaintext-out", w.file("again"))
	if got != "" || w.read("again") != keys {
		t.Errorf("unwrapped again:\n%s%s", got, w.read("again"))
	}

	lines := strings.SplitAfter(wrapped, "\n")
	foreign := w.ok(words("datakey generate other --context a=b")...)
	stdout, stderr, code := w.exit(lines[0]+foreign+lines[1], words("datakey unwrap orders --context a=b")...)
	expected := strings.SplitAfter(keys, "\n")
	if code != exitFailure || stdout != expected[0]+"\n"+expected[1] ||
		!strings.Contains(stderr, "data key 2: ") || !strings.Contains(stderr, "1 of 3") {
		t.Errorf("one bad item: exit code %d\n%s\n%s", code, stdout, stderr)
	}
	w.failsWith(lines[0]+"???\n", exitFailure, words("datakey unwrap --context a=b"), "line 2", "base64")
	w.failsWith(strings.Repeat("A", 5000), exitFailure, words("datakey rewrap"), "line 1", "longer")
	if got := w.okWith("", words("datakey unwrap")...); got != "" {
		t.Errorf("nothing unwrapped: %q", got)
	}
}

func TestDataKeyOutput(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	line := w.ok(words("datakey generate orders --size 16 --show-plaintext")...)
	columns := strings.Split(strings.TrimSpace(line), "\t")
	if len(columns) != 2 || !isBase64(columns[0], 76) || !isBase64(columns[1], 16) {
		t.Errorf("%q", line)
	}
	for _, args := range []string{"", "--without-plaintext"} {
		line := w.ok(words("datakey generate orders " + args)...)
		if !isBase64(strings.TrimSpace(line), 92) {
			t.Errorf("%q", line)
		}
	}
	var records []map[string]any
	w.must(json.Unmarshal([]byte(w.ok(words("datakey generate orders --count 2 -o json --show-plaintext")...)), &records))
	if len(records) != 2 || records[0]["key_version"] != "namespaces/default/keys/orders/versions/1" ||
		records[0]["data_key"] == records[1]["data_key"] {
		t.Errorf("%v", records)
	}
	var without []map[string]any
	w.must(json.Unmarshal([]byte(w.ok(words("datakey generate orders -o json")...)), &without))
	if _, ok := without[0]["data_key"]; ok || without[0]["wrapped_data_key"] == "" {
		t.Error("plaintext that nobody asked for")
	}
	if got := strings.Count(w.ok("datakey", "generate", "orders", "--count", "5000"), "\n"); got != 5000 {
		t.Errorf("%d data keys", got)
	}
	w.fails(exitUsage, words("datakey generate orders --count 0"), "--count")
	w.fails(exitFailure, words("datakey generate orders --size 65"), "INVALID_REQUEST")
	w.fails(exitUsage, words("datakey generate orders --without-plaintext --show-plaintext"), "plaintext")
	w.write("exists", "old")
	w.fails(exitFailure, []string{"datakey", "generate", "orders", "--plaintext-out", w.file("exists")}, "--force")
}

func isBase64(text string, size int) bool {
	data, err := base64.StdEncoding.DecodeString(text)
	return err == nil && len(data) == size
}

func TestRandom(t *testing.T) {
	w := newWorld(t)
	data, err := hex.DecodeString(strings.TrimSuffix(w.ok(words("random 32")...), "\n"))
	if err != nil || len(data) != 32 {
		t.Errorf("hex: %d bytes, %v", len(data), err)
	}
	if text := w.ok(words("random 33 --format base64")...); !isBase64(strings.TrimSuffix(text, "\n"), 33) {
		t.Errorf("base64: %q", text)
	}
	if raw := w.ok(words("random 65536 --format raw")...); len(raw) != kms.MaxRandom {
		t.Errorf("raw: %d bytes", len(raw))
	}
	for _, args := range []string{"random", "random 0", "random -- -1", "random 65537", "random x", "random 1 2",
		"random 1 --format octal", "random 1 -o json"} {
		w.fails(exitUsage, words(args))
	}
}
