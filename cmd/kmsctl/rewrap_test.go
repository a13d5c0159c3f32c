package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/envelope"
)

// blobs makes n wrapped data keys, as base64 lines.
func (w *world) blobs(key string, n int, flags ...string) []string {
	w.Helper()
	out := w.ok(append([]string{"datakey", "generate", key, "--count", fmt.Sprint(n)}, flags...)...)
	return strings.Split(strings.TrimSpace(out), "\n")
}

// data makes a ciphertext of the service, as a base64 line.
func (w *world) data(key, plaintext string) string {
	w.Helper()
	return base64.StdEncoding.EncodeToString([]byte(w.okWith(plaintext, "encrypt", key, "--remote")))
}

// unwrapped are the plaintexts of wrapped keys.
func (w *world) unwrapped(lines []string, flags ...string) string {
	w.Helper()
	return w.okWith(strings.Join(lines, "\n")+"\n", append([]string{"datakey", "unwrap"}, flags...)...)
}

// result is the structured result of a rewrap.
func (w *world) result(args ...string) tallyRecord {
	w.Helper()
	var record tallyRecord
	w.must(json.Unmarshal([]byte(w.ok(append(args, "-o", "json")...)), &record))
	return record
}

func (r *tallyRecord) under(version string) int {
	for _, v := range r.Versions {
		if strings.HasSuffix(v.KeyVersion, "/"+version) {
			return v.Count
		}
	}
	return 0
}

// uidOf is the UID in a line.
func (w *world) uidOf(text string) uid {
	w.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	w.must(err)
	blob, err := envelope.Parse(raw)
	w.must(err)
	return blob.UID
}

func TestRewrapLines(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	w.ok(words("key create cards --profile STRICT")...)
	lines := w.blobs("orders", 1500)
	lines = append(lines, w.blobs("cards", 2)...)
	lines = append(lines, "", w.data("orders", "attack at dawn"), w.data("cards", ""))
	keys := append([]string{}, lines[:1502]...)
	before := w.unwrapped(keys)
	w.ok(words("rotate orders --restrict-previous --reason stolen -y")...)
	w.ok(words("rotate cards")...)
	fresh := w.blobs("orders", 1)
	lines = append(lines, fresh...)

	in := w.write("in", strings.Join(lines, "\n")+"\n")
	counted := w.result("rewrap", "--count", "--in", in)
	if counted.under("orders/versions/1") != 1501 || counted.under("orders/versions/2") != 1 || counted.Older != 1504 {
		t.Errorf("counted %+v", counted)
	}
	record := w.result("rewrap", "--in", in, "--out", w.file("out"))
	if record.Rewrapped != 1504 || record.Unchanged != 1 || record.Failed != 0 || record.Older != 0 ||
		record.under("orders/versions/2") != 1502 || record.under("cards/versions/2") != 3 {
		t.Errorf("rewrapped %+v", record)
	}
	out := strings.Split(w.read("out"), "\n")
	if len(out) != len(lines)+1 || out[1502] != "" || out[len(lines)-1] != fresh[0] {
		t.Fatalf("%d lines for %d", len(out), len(lines))
	}
	if after := w.unwrapped(out[:1502]); after != before {
		t.Error("the data keys are not the same")
	}
	raw, err := base64.StdEncoding.DecodeString(out[1503])
	w.must(err)
	if got := w.okWith(string(raw), "decrypt"); got != "attack at dawn" {
		t.Errorf("the data is now %q", got)
	}

	// What is done already stays as it is, also through standard output.
	if again := w.okWith(w.read("out"), "rewrap"); again != w.read("out") {
		t.Error("a second run changed what was done")
	}
	if left, err := filepath.Glob(w.file("*partial*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	w.fails(exitFailure, []string{"rewrap", "--in", in, "--out", w.file("out")}, "exists", "--force")
}

// A line that fails comes out as it went in, and its number is told.
func TestRewrapFailures(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	w.ok(words("key create gone")...)
	good, gone := w.blobs("orders", 2), w.blobs("gone", 1)
	bound := w.blobs("orders", 1, "--context", "a=b")
	w.ok(words("rotate orders")...)
	w.ok(words("revoke gone/1 --reason leak --accept-data-loss -y")...)
	lines := []string{good[0], "not base64!", gone[0], base64.StdEncoding.EncodeToString([]byte("KH\x01\x02 short")), bound[0], good[1]}
	stdout, stderr, code := w.exit(strings.Join(lines, "\n"), "rewrap") // without an end of the last line
	out := strings.Split(stdout, "\n")
	if code != exitFailure || len(out) != len(lines)+1 {
		t.Fatalf("exit code %d, %d lines\n%s", code, len(out), stderr)
	}
	for i, want := range lines {
		if same := out[i] == want; same != (i > 0 && i < 5) {
			t.Errorf("line %d became %q", i+1, out[i])
		}
	}
	for _, want := range []string{
		"line 2: it is not base64", "line 3: .*KEY_VERSION_REVOKED", "line 4: malformed", "line 5: .*DECRYPTION_FAILED",
		"4 of 6 ciphertexts failed; under an older version: 1", `gone/versions/1 +REVOKED`,
	} {
		if !regexp.MustCompile(want).MatchString(stderr) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
	w.failsWith("nonsense\n", exitFailure, words("rewrap --count"), "1 ciphertext cannot be read")
	got := w.okWith(gone[0]+"\n", words("rewrap --count --key orders")...)
	if !strings.Contains(got, "unknown in this namespace") || !strings.Contains(got, w.uidOf(gone[0]).String()) {
		t.Errorf("counted as\n%s", got)
	}
}

// A line longer than any ciphertext comes out as it went in, is told and counted once, and
// the lines around it are rewrapped, also when a run goes on from the middle of it.
func TestRewrapLongLines(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	good := w.blobs("orders", 2)
	w.ok(words("rotate orders")...)
	long := strings.Repeat("A", 3*chunkBytes+5)
	in := strings.Join([]string{good[0], long, good[1], strings.Repeat("B", maxBlobLine)}, "\n") // no end of the last line
	want := "2 rewrapped, 0 under the primary version before, 2 failed"
	check := func(out string, stderr string, code int) {
		t.Helper()
		lines := strings.Split(out, "\n")
		if len(lines) != 4 || lines[0] == good[0] || lines[1] != long || lines[2] == good[1] || len(lines[3]) != maxBlobLine {
			t.Fatalf("%d lines, %d bytes for %d", len(lines), len(out), len(in))
		}
		if code != exitFailure || strings.Count(stderr, "line 2: it is longer than any ciphertext") != 1 ||
			strings.Count(stderr, "line 4: it is longer") != 1 || !strings.Contains(stderr, want) {
			t.Fatalf("exit code %d, %s", code, stderr)
		}
	}
	stdout, stderr, code := w.exit(in, "rewrap")
	check(stdout, stderr, code)
	_, stderr, code = w.exit(in, "rewrap", "--count")
	if code != exitFailure || !strings.Contains(stderr, "2 ciphertexts cannot be read") {
		t.Errorf("counted with exit code %d, %s", code, stderr)
	}

	// A run that was interrupted after the first chunk, which ends in the middle of line 2.
	path, out := w.write("in", in), w.file("out")
	input := &lineReader{r: bufio.NewReaderSize(strings.NewReader(in), maxBlobLine), sum: sha256.New()}
	first, err := input.chunk()
	w.must(err)
	if !first.mark.InLine || first.mark.Lines != 2 {
		t.Fatalf("the first chunk ends at %+v", first.mark)
	}
	first.mark.OutputBytes = first.mark.InputBytes
	state, err := json.Marshal(first.mark)
	w.must(err)
	w.must(os.WriteFile(out+".partial", []byte(stdout[:first.mark.OutputBytes]), 0o600))
	w.must(os.WriteFile(out+".partial-state", state, 0o600))
	_, stderr, code = w.exit("", "rewrap", "--in", path, "--out", out)
	want = "1 rewrapped, 0 under the primary version before, 2 failed" // one of them told by the first run
	if strings.Contains(stderr, "line 2:") || !strings.Contains(stderr, "going on after line 2") {
		t.Errorf("going on, it says:\n%s", stderr)
	}
	check(w.read("out"), "line 2: it is longer than any ciphertext"+stderr, code)
}

// tree makes a directory of encrypted files and others; it returns the plaintexts.
func (w *world) tree() map[string]string {
	w.Helper()
	plain := map[string]string{"a": "", "sub/b": "short", "sub/deep/c": strings.Repeat("0123456789", 300_000), "sub/remote": "by the service"}
	w.must(os.MkdirAll(w.file("tree/sub/deep"), 0o700))
	for name, text := range plain {
		args := []string{"encrypt", "orders", "--context", "host=web1", "--in", w.write("plain", text), "--out", w.file("tree/" + name)}
		if name == "sub/remote" {
			args = append(args, "--remote")
		}
		w.ok(args...)
	}
	w.must(os.WriteFile(w.file("tree/notes"), []byte("KHaki shorts"), 0o600))
	w.must(os.WriteFile(w.file("tree/empty"), nil, 0o600))
	w.must(os.Chmod(w.file("tree/sub/b"), 0o440))
	return plain
}

func (w *world) wantTree(plain map[string]string) {
	w.Helper()
	for name, text := range plain {
		w.ok("decrypt", "orders", "--context", "host=web1", "--in", w.file("tree/"+name), "--out", w.file("back"), "--force")
		if w.read("back") != text {
			w.Errorf("%s came back changed", name)
		}
	}
	err := filepath.WalkDir(w.file("tree"), func(path string, _ os.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(path), ".") {
			w.Errorf("left behind: %s", path)
		}
		return err
	})
	w.must(err)
	if w.read("tree/notes") != "KHaki shorts" || w.read("tree/empty") != "" {
		w.Error("a file that is not encrypted was changed")
	}
}

// rewrapFails runs a rewrap that must fail, say the texts, and show its result all the same.
func (w *world) rewrapFails(args []string, texts ...string) {
	w.Helper()
	stdout, stderr, code := w.exit("", append([]string{"rewrap"}, args...)...)
	if code != exitFailure || !strings.Contains(stdout, "COUNT") {
		w.Errorf("exit code %d, standard output %q\n%s", code, stdout, stderr)
	}
	for _, text := range texts {
		if !strings.Contains(stderr, text) {
			w.Errorf("does not say %q, but:\n%s", text, stderr)
		}
	}
}

func TestRewrapFiles(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	plain := w.tree()
	w.ok(words("rotate orders")...)
	counted := w.result("rewrap", "--count", w.file("tree"))
	if counted.under("orders/versions/1") != 4 || counted.NotEncrypted != 2 || counted.Older != 4 {
		t.Errorf("counted %+v", counted)
	}
	w.rewrapFails([]string{w.file("tree/a")}, "DECRYPTION_FAILED", "tree/a: ", "1 of 1 file failed; under an older version: 1")
	record := w.result("rewrap", "--context", "host=web1", "--key", "orders", w.file("tree/sub"), w.file("tree/a"))
	if record.Rewrapped != 4 || record.under("orders/versions/2") != 4 || record.Older != 0 {
		t.Errorf("rewrapped %+v", record)
	}
	info, err := os.Stat(w.file("tree/sub/b"))
	w.must(err)
	if info.Mode() != 0o440 {
		t.Errorf("the mode became %v", info.Mode())
	}
	again := w.result("rewrap", "--context", "host=web1", w.file("tree"))
	if again.Unchanged != 4 || again.Rewrapped != 0 || again.NotEncrypted != 2 {
		t.Errorf("a second run: %+v", again)
	}
	w.ok(words("revoke orders/1 --reason over --accept-data-loss -y")...)
	w.wantTree(plain)
	w.fails(exitFailure, []string{"rewrap", w.file("tree/notes")}, "nothing that \"kmsctl encrypt\" makes")
	w.fails(exitFailure, []string{"rewrap", w.file("tree/none")}, "no such file")
}

// The header of a large file is overwritten in place; what a crash has left half done the
// next run brings to an end.
func TestHeadersInPlace(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	plain := w.tree()
	path := w.file("tree/sub/deep/c")
	examine := func() *encryptedFile {
		t.Helper()
		f, err := (&rewrapper{flags: &rewrapFlags{}}).examine(&target{path: path, asked: true})
		w.must(err)
		return f
	}
	old := examine()
	w.ok(words("rotate orders")...)
	before, err := os.Stat(path)
	w.must(err)

	// A crash in the middle: the redo file is there, and the header is half of each.
	w.ok("rewrap", "--context", "host=web1", path)
	done := examine()
	redo := leftover(path, redoSuffix)
	w.must(os.WriteFile(path+".new", nil, 0o600)) // a neighbour that is none of rewrap's business
	torn := append(append([]byte{}, done.old[:60]...), old.old[60:]...)
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	w.must(err)
	_, err = file.WriteAt(torn, 0)
	w.must(err)
	w.fails(exitFailure, []string{"decrypt", "--context", "host=web1", "--in", path}, "(")
	sum := redoFile(done.old)
	for name, content := range map[string][]byte{"cut off": sum[:50], "of another file": redoFile(append([]byte("x"), done.old[1:]...))} {
		w.must(os.WriteFile(redo, content, 0o600))
		w.rewrapFails([]string{"--context", "host=web1", path}, "DECRYPTION_FAILED")
		if _, err := os.Lstat(redo); err == nil {
			t.Errorf("a redo file %s was not removed", name)
		}
	}
	w.must(os.WriteFile(redo, sum, 0o600))
	w.must(os.WriteFile(leftover(path, copySuffix), []byte("half a copy"), 0o600))
	if record := w.result("rewrap", "--context", "host=web1", path); record.Unchanged != 1 || record.Older != 0 {
		t.Errorf("after the crash: %+v", record)
	}
	w.must(os.Remove(path + ".new"))
	w.wantTree(plain)

	// In place the file stays the same one; a copy is another.
	w.must(replaceStart(path, done.old, old.old, 0))
	w.must(file.Close())
	after, err := os.Stat(path)
	w.must(err)
	if os.SameFile(before, after) || examine().parsed.UID != old.parsed.UID {
		t.Error("the first run did not copy, or the header was not replaced")
	}
	w.must(replaceStart(path, old.old, done.old, 0))
	if same, err := os.Stat(path); err != nil || !os.SameFile(after, same) {
		t.Errorf("not in place: %v", err)
	}
	if err := replaceStart(path, old.old, done.old, 0); err == nil || !strings.Contains(err.Error(), "changed by somebody") {
		t.Errorf("a file that has changed: %v", err)
	}
	w.wantTree(plain)
}

// A file with several names is rewrapped once, and stays one file; a file that is given
// twice is rewrapped once too.
func TestRewrapHardLinks(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	plain := w.tree()
	link := func(old, name string) {
		t.Helper()
		w.must(os.Link(w.file("tree/"+old), w.file(name)))
		if rest, ok := strings.CutPrefix(name, "tree/"); ok {
			plain[rest] = plain[old]
		}
	}
	same := func(one, other string) bool {
		t.Helper()
		a, err := os.Stat(w.file(one))
		w.must(err)
		b, err := os.Stat(w.file(other))
		w.must(err)
		return os.SameFile(a, b)
	}
	link("a", "tree/a2")
	link("a", "tree/sub/a3")
	link("sub/remote", "tree/remote2")
	link("sub/b", "elsewhere")
	w.ok(words("rotate orders")...)
	if counted := w.result("rewrap", "--count", w.file("tree")); counted.under("orders/versions/1") != 4 {
		t.Errorf("counted %+v", counted)
	}
	record := w.result("rewrap", "--context", "host=web1", w.file("tree"), w.file("tree/sub"), w.file("tree/a"))
	if record.Rewrapped != 4 || record.under("orders/versions/2") != 4 || record.Older != 0 || record.Failed != 0 {
		t.Errorf("rewrapped %+v", record)
	}
	if !same("tree/a", "tree/a2") || !same("tree/a", "tree/sub/a3") || !same("tree/sub/remote", "tree/remote2") || !same("elsewhere", "tree/sub/b") {
		t.Error("names of one file have become names of several")
	}
	w.ok(words("revoke orders/1 --reason over --accept-data-loss -y")...)
	w.wantTree(plain)
	w.ok("decrypt", "orders", "--context", "host=web1", "--in", w.file("elsewhere"), "--out", w.file("back"), "--force")

	// A ciphertext that is replaced as a whole is a copy, which names elsewhere do not get.
	link("sub/remote", "far")
	w.must(os.Remove(w.file("tree/remote2")))
	w.ok(words("rotate orders")...)
	w.rewrapFails([]string{"--context", "host=web1", w.file("tree/sub/remote")},
		"elsewhere: 1 more name of it (hard links)", "outside of the paths, of files under an older version: 1 name (hard links)")
	w.ok("rewrap", "--context", "host=web1", w.file("far"))
	delete(plain, "remote2")
	w.wantTree(plain)
}

func TestRewrapNames(t *testing.T) {
	for name, want := range map[string]bool{
		".a.rewrap-redo": true, ".a.rewrap-copy": true, "a.rewrap-redo": false, ".a": false, "a": false,
	} {
		if isLeftover(name) != want || want && leftover("/x/a", filepath.Ext(name)) != "/x/"+name {
			t.Errorf("%s", name)
		}
	}
	if got := (&tally{}).older(); got != 0 {
		t.Errorf("%d of nothing are older", got)
	}
	var none kms.VersionName
	if (&tally{}).numbered(versionRecord{}) != none {
		t.Error("an unknown version has a name")
	}
}
