package softhsmtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/keyholt/keyholt"

// goPackage is what `go list -json` tells of one package, reduced to what the rules need.
type goPackage struct {
	ImportPath string
	Name       string
	Imports    []string // of the package itself, not of its tests
	Deps       []string // Imports, theirs, and so on
	CgoFiles   []string
	Error      *struct{ Err string }
	DepsErrors []struct{ Err string }
}

// importRule says what the production code of a package may import of this module, and which libraries it must not
// link, not even through others.
type importRule struct {
	// may names packages relative to the module. A trailing /... covers everything below a path and the
	// path itself; ... alone covers everything.
	may []string
	// never holds prefixes of import paths of other modules.
	never []string
}

const (
	grpcLibrary       = "google.golang.org/grpc"
	protobufLibrary   = "google.golang.org/protobuf"
	prometheusLibrary = "github.com/prometheus/"
	telemetryLibrary  = "go.opentelemetry.io/"
	pkcs11Library     = "github.com/miekg/pkcs11"
	crypto11Library   = "github.com/ThalesGroup/crypto11"
	sqliteLibrary     = "modernc.org/sqlite"
	joseLibrary       = "github.com/go-jose/go-jose"
	sshLibrary        = "golang.org/x/crypto/ssh"
)

// importRules is the whole table: a package that no row covers has no place in the design yet. A row covers its path, and
// with a trailing /... everything below; a package's own row wins, else the longest.
func importRules() map[string]importRule {
	var (
		noTransport = []string{grpcLibrary, protobufLibrary, prometheusLibrary, telemetryLibrary}
		noToken     = []string{pkcs11Library, crypto11Library}
		noServer    = []string{pkcs11Library, crypto11Library, sqliteLibrary}
		// hsm for the vocabulary that the domain's own interfaces use, such as hsm.UID: the contract is a leaf.
		adapter = importRule{may: []string{"hsm", "kms", "kms/envelope"}, never: noToken}
	)
	return map[string]importRule{
		"proto/...": {never: noToken},

		"hsm":              {never: slices.Concat(noTransport, noToken)},
		"hsm/pkcs11hsm":    {may: []string{"hsm"}, never: noTransport},
		"hsm/coalesce":     {may: []string{"hsm"}, never: slices.Concat(noTransport, noToken)},
		"hsm/hsmtest":      {may: []string{"hsm"}, never: slices.Concat(noTransport, noToken)},
		"hsm/hsmbench":     {may: []string{"hsm"}, never: slices.Concat(noTransport, noToken)},
		"softhsm-test/...": {may: []string{"..."}},
		// Benchmarks build the module that it holds, without cgo.
		"softhsm-test/latency": {never: slices.Concat(noTransport, noToken)},

		"kms/envelope":     {never: slices.Concat(noTransport, noToken)},
		"kms/lease":        {never: slices.Concat(noTransport, noServer)},
		"kms":              {may: []string{"hsm", "kms/envelope", "kms/lease"}, never: slices.Concat(noTransport, noToken)},
		"kms/keystore/...": adapter,
		"kms/authn/...":    adapter,
		"kms/authz/...":    adapter,
		"kms/audit/...":    adapter,
		"kms/gateway/...":  adapter,
		"kms/wire/...":     {may: []string{"hsm", "kms", "kms/envelope", "kms/wire", "proto/..."}, never: noServer},
		"kms/grpcapi/...":  {may: []string{"kms", "kms/wire", "proto/..."}, never: noServer},
		// Around everything that it measures; the transport and the metrics libraries are its own affair.
		"kms/telemetry": {may: []string{"hsm", "hsm/coalesce", "kms", "kms/wire"}, never: noServer},
		// What only an adapter needs, whoever does without the adapter does not link.
		"kms/client": {
			may:   []string{"kms", "kms/envelope", "kms/wire", "proto/..."},
			never: slices.Concat(noServer, []string{joseLibrary, sshLibrary}),
		},
		"kms/client/...": {
			may:   []string{"kms", "kms/client/...", "kms/envelope", "kms/wire", "proto/..."},
			never: noServer,
		},
		"kms/kmstest": {may: []string{"hsm", "hsm/hsmtest", "kms", "kms/envelope"}, never: noToken},

		"cmd/kmsd/...": {may: []string{"cmd/kmsd/...", "hsm/...", "kms/...", "proto/..."}},
		"cmd/kmsctl/...": {
			may:   []string{"cmd/kmsctl/...", "kms", "kms/audit", "kms/client/...", "kms/envelope", "kms/wire", "proto/..."},
			never: noServer,
		},
		"cmd/kmsbench/...": {
			may:   []string{"bench/...", "cmd/kmsbench/...", "hsm/hsmbench", "kms/client/...", "proto/...", "softhsm-test/latency"},
			never: noServer,
		},
		// The baseline is the server without what it serves.
		"bench/echo": {
			may:   []string{"kms", "kms/authn", "kms/grpcapi", "kms/telemetry", "proto/..."},
			never: noServer,
		},
		"bench/...": {
			may:   []string{"bench/...", "hsm/hsmbench", "kms", "kms/client/...", "proto/...", "softhsm-test/latency"},
			never: noServer,
		},
	}
}

// cgoPackage is the only one that may use cgo; softhsm-test may too, for modules that misbehave on purpose.
const cgoPackage = "hsm/pkcs11hsm"

// vagueNames say nothing of what is in a package, or hide one of the standard library.
var vagueNames = []string{"common", "config", "errors", "helpers", "log", "types", "util", "utils"}

// testOnly are the packages that only tests import, with what is below them.
var testOnly = []string{"hsm/hsmtest", "kms/keystore/keystoretest", "kms/kmstest", "softhsm-test"}

// notOnlyTests is below softhsm-test, and for benchmarks.
const notOnlyTests = "softhsm-test/latency"

// TestImportRules holds the dependency direction of the packages.
func TestImportRules(t *testing.T) {
	packages := goList(t, "CGO_ENABLED=1", "./...")
	if len(packages) == 0 {
		t.Fatal("go list names no package of the module")
	}
	for _, problem := range violations(packages, importRules()) {
		t.Error(problem)
	}
}

// TestImportRulesWithoutCgo holds that the programs that users install build without a C compiler.
func TestImportRulesWithoutCgo(t *testing.T) {
	checked := 0
	for _, program := range []string{"kmsctl", "kmsbench"} {
		if _, err := os.Stat(path.Join("..", "cmd", program)); errors.Is(err, os.ErrNotExist) {
			continue // not every program exists from the first day
		}
		checked++
		for _, pkg := range goList(t, "CGO_ENABLED=0", "./cmd/"+program) {
			if pkg.Error != nil {
				t.Errorf("%s does not load without cgo: %s", pkg.ImportPath, pkg.Error.Err)
			}
			for _, err := range pkg.DepsErrors {
				t.Errorf("%s does not load without cgo: %s", pkg.ImportPath, err.Err)
			}
			if slices.Contains(pkg.Deps, modulePath+"/"+cgoPackage) {
				t.Errorf("%s links %s", pkg.ImportPath, cgoPackage)
			}
		}
	}
	if checked == 0 {
		t.Fatal("no program was checked")
	}
}

// goList runs go list at the root of the module.
func goList(t *testing.T, env, pattern string) []goPackage {
	t.Helper()
	// Without the profile of cmd/kmsd: packages built with it have names of their own.
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-pgo=off",
		"-json=ImportPath,Name,Imports,Deps,CgoFiles,Error,DepsErrors", pattern)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), env)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg goPackage
		err := dec.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, pkg)
	}
}

// violations lists what is wrong with a module's packages under the rules, in the order of the packages.
func violations(packages []goPackage, rules map[string]importRule) []string {
	var found []string
	for _, pkg := range packages {
		local, ours := strings.CutPrefix(pkg.ImportPath, modulePath+"/")
		if !ours {
			found = append(found, fmt.Sprintf("%s: not below %s/: the root holds no package", pkg.ImportPath, modulePath))
			continue
		}
		report := func(format string, args ...any) {
			found = append(found, local+": "+fmt.Sprintf(format, args...))
		}
		if slices.Contains(vagueNames, pkg.Name) || slices.Contains(vagueNames, path.Base(local)) {
			report("the name %s says nothing of what is in the package", pkg.Name)
		}
		if len(pkg.CgoFiles) > 0 && local != cgoPackage && !covers("softhsm-test/...", local) {
			report("uses cgo (%s): only %s may", strings.Join(pkg.CgoFiles, ", "), cgoPackage)
		}
		rule, ok := ruleFor(local, rules)
		if !ok {
			report("no row of importRules covers it: give it its place there, and in .golangci.yml")
			continue
		}
		for _, imported := range pkg.Imports {
			target, ours := strings.CutPrefix(imported, modulePath+"/")
			switch {
			case !ours:
			case covers("cmd/...", target) && !sameProgram(local, target):
				report("imports %s: nothing imports a program", target)
			case !slices.Contains(testOnly, local) && isTestOnly(target) && !covers("softhsm-test/...", local):
				report("imports %s: production code does not link test packages", target)
			case !slices.ContainsFunc(rule.may, func(pattern string) bool { return covers(pattern, target) }):
				report("must not import %s", target)
			}
		}
		for _, library := range rule.never {
			for _, dep := range pkg.Deps {
				if strings.HasPrefix(dep, library) {
					report("must not link %s (it links %s)", library, dep)
					break
				}
			}
		}
	}
	return found
}

// ruleFor returns the rule of a package's own row, or of the longest that covers it.
func ruleFor(local string, rules map[string]importRule) (importRule, bool) {
	if own, ok := rules[local]; ok {
		return own, true
	}
	best := ""
	for row := range maps.Keys(rules) {
		if covers(row, local) && len(row) > len(best) {
			best = row
		}
	}
	return rules[best], best != ""
}

// covers reports whether a pattern of importRule names the package.
func covers(pattern, local string) bool {
	if pattern == "..." {
		return true
	}
	parent, below := strings.CutSuffix(pattern, "/...")
	return local == parent || below && strings.HasPrefix(local, parent+"/")
}

// sameProgram reports whether both are packages of one program below cmd/.
func sameProgram(local, target string) bool {
	a, b := strings.Split(local, "/"), strings.Split(target, "/")
	return len(a) > 1 && len(b) > 1 && a[0] == "cmd" && a[1] == b[1]
}

func isTestOnly(local string) bool {
	return local != notOnlyTests && slices.ContainsFunc(testOnly, func(parent string) bool { return covers(parent+"/...", local) })
}

// TestImportRulesCanFail shows each rule a graph that breaks it: a check that never fails proves nothing.
func TestImportRulesCanFail(t *testing.T) {
	pkg := func(local string, imports ...string) goPackage {
		p := goPackage{ImportPath: modulePath + "/" + local, Name: path.Base(local)}
		for _, imported := range imports {
			if !strings.Contains(strings.Split(imported, "/")[0], ".") && !strings.HasPrefix(imported, "std:") {
				imported = modulePath + "/" + imported
			}
			p.Imports = append(p.Imports, strings.TrimPrefix(imported, "std:"))
		}
		p.Deps = p.Imports
		return p
	}
	withCgo := func(p goPackage) goPackage {
		p.CgoFiles = []string{"shim.go"}
		return p
	}
	tests := []struct {
		name string
		pkg  goPackage
		want string // part of the one violation; empty: none
	}{
		{"the token contract is a leaf", pkg("hsm", "kms"), "must not import kms"},
		{"the envelope is a leaf", pkg("kms/envelope", "hsm"), "must not import hsm"},
		{"the lease protocol is a leaf", pkg("kms/lease", "kms"), "must not import kms"},
		{"the domain knows the lease protocol", pkg("kms", "kms/lease"), ""},
		{"an implementation knows the contract", pkg("hsm/coalesce", "hsm"), ""},
		{"an implementation knows no other", pkg("hsm/coalesce", "hsm/pkcs11hsm"), "must not import hsm/pkcs11hsm"},
		{"the domain knows contract and envelope", pkg("kms", "hsm", "kms/envelope", "std:fmt"), ""},
		{"the domain knows no wire contract", pkg("kms", "proto/keyholt/kms/v1"), "must not import proto/keyholt/kms/v1"},
		{"the domain links no gRPC", pkg("kms", grpcLibrary+"/codes"), "must not link " + grpcLibrary},
		{"the domain links no metrics", pkg("kms", prometheusLibrary+"client_golang"), "must not link " + prometheusLibrary},
		{"an adapter knows the words of the contract", pkg("kms/keystore", "hsm", "kms"), ""},
		{"an adapter knows no token", pkg("kms/keystore", "hsm/coalesce"), "must not import hsm/coalesce"},
		{"an adapter knows no server", pkg("kms/keystore/postgres", "kms/grpcapi"), "must not import kms/grpcapi"},
		{"the client links no server", pkg("kms/client/tink", "kms/grpcapi"), "must not import kms/grpcapi"},
		{"the client links no library of an adapter", pkg("kms/client", joseLibrary+"/v4"), "must not link " + joseLibrary},
		{"an adapter links its library", pkg("kms/client/sshsigner", "kms/client", sshLibrary), ""},
		{"the client links no store", pkg("kms/client", sqliteLibrary), "must not link " + sqliteLibrary},
		{"nothing imports a program", pkg("bench", "cmd/kmsd"), "nothing imports a program"},
		{"a program imports no other", pkg("cmd/kmsctl", "cmd/kmsd"), "nothing imports a program"},
		{"a program may have packages", pkg("cmd/kmsctl", "cmd/kmsctl/prompt"), ""},
		{"production links no test package", pkg("cmd/kmsd", "hsm/hsmtest"), "production code does not link test packages"},
		{"a benchmark delays the token", pkg("bench", "softhsm-test/latency"), ""},
		{"a benchmark links no other test package", pkg("bench", "softhsm-test"), "production code does not link test packages"},
		{"the server delays nothing", pkg("cmd/kmsd", "softhsm-test/latency"), "must not import softhsm-test/latency"},
		{"a contract suite uses a test double", pkg("kms/kmstest", "kms", "hsm/hsmtest"), ""},
		{"a suite on real tokens imports anything", pkg("softhsm-test", "kms/kmstest", "kms/grpcapi"), ""},
		{"cgo stands in one package", withCgo(pkg("kms/keystore")), "uses cgo"},
		{"and may stand there", withCgo(pkg(cgoPackage, "hsm", pkcs11Library)), ""},
		{"PKCS#11 stands in one package", pkg("kms/grpcapi", pkcs11Library), "must not link " + pkcs11Library},
		{"a vague name", pkg("kms/authn/util"), "says nothing"},
		{"a package without a row", pkg("kms/cache"), "no row of importRules covers it"},
		{"a row is no prefix of a word", pkg("hsm/coalesced"), "no row of importRules covers it"},
		{"a package outside the module's folders", goPackage{ImportPath: modulePath, Name: "keyholt"}, "the root holds no package"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := violations([]goPackage{tt.pkg}, importRules())
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("violations %q, want none", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("violations %q, want one with %q", got, tt.want)
			}
		})
	}
}
