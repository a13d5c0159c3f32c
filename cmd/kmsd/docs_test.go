package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func readRepositoryFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEveryKeyIsDocumented(t *testing.T) {
	doc := readRepositoryFile(t, "docs/configuration.md")
	documented := make(map[string]bool)
	row := regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\|[^|]+\\|[^|]+\\| [^|]+ \\|$")
	for _, match := range row.FindAllStringSubmatch(doc, -1) {
		documented[match[1]] = true
	}
	for _, key := range everyKey(reflect.TypeFor[config](), "") {
		if !documented[key] {
			t.Errorf("docs/configuration.md has no row for %s", key)
		}
		delete(documented, key)
	}
	for key := range documented {
		t.Errorf("docs/configuration.md describes %s, which is no key", key)
	}
}

// The example is a configuration as it stands, and with each commented key too; the
// defaults that it shows are the defaults.
func TestExampleConfiguration(t *testing.T) {
	t.Setenv(credentialsEnv, "")
	example := readRepositoryFile(t, "deploy/kmsd.yaml")
	example = strings.Replace(example, "  #pin_file", "  pin_file", 1) // else systemd has to give it
	plain, _, err := loadConfig(writeConfig(t, example))
	if err != nil {
		t.Fatal(err)
	}
	// store.dsn and store.dsn_file do not go together, nor do sqlite and replica.lease.
	uncommented := regexp.MustCompile(`(?m)^( *)#(\S)`).ReplaceAllString(example, "$1$2")
	all, f, err := loadConfig(writeConfig(t, regexp.MustCompile(`(?m)^ *(dsn_file|lease):.*$`).ReplaceAllString(uncommented, "")))
	if err != nil {
		t.Fatal(err)
	}
	uncommented = strings.Replace(uncommented, "driver: sqlite", "driver: postgres", 1)
	postgres, file, err := loadConfig(writeConfig(t, regexp.MustCompile(`(?m)^ *dsn:.*$`).ReplaceAllString(uncommented, "")))
	if err != nil {
		t.Fatal(err)
	}
	if postgres.Store.DSNFile != "/etc/keyholt/dsn" {
		t.Errorf("the DSN file of the example is %q", postgres.Store.DSNFile)
	}
	if postgres.Replica.Lease != plain.Replica.Lease {
		t.Errorf("the lease of the example is %v", postgres.Replica.Lease)
	}
	for _, key := range everyKey(reflect.TypeFor[config](), "") {
		if f.lines[key] == 0 && file.lines[key] == 0 {
			t.Errorf("deploy/kmsd.yaml does not have %s", key)
		}
	}
	all.HSM.InitArgs, all.HSM.TokenSerial, all.Administrators = "", "", plain.Administrators // examples, not defaults
	all.Listen.Metrics, all.Tracing.Endpoint, all.Replica.Name = "", "", ""
	if !reflect.DeepEqual(plain, all) {
		t.Errorf("a default in deploy/kmsd.yaml is another one:\n%+v\n%+v", plain, all)
	}
}

func TestExitCodesAreDocumented(t *testing.T) {
	doc := readRepositoryFile(t, "docs/configuration.md")
	var rows []string
	var never []string
	for _, c := range exitCodesByNumber() {
		restart := "no"
		switch {
		case c.Code == 0:
			restart = ""
		case c.Restart:
			restart = "may help"
		default:
			never = append(never, fmt.Sprint(c.Code))
		}
		row := fmt.Sprintf("| %d | %s | %s | %s |", c.Code, c.Name, c.Meaning, restart)
		rows = append(rows, regexp.MustCompile(` +\|`).ReplaceAllString(row, " |"))
	}
	if table := strings.Join(rows, "\n") + "\n"; !strings.Contains(doc, table) {
		t.Errorf("docs/configuration.md does not have the table of exit codes:\n%s", table)
	}
	want := "\nRestartPreventExitStatus=" + strings.Join(never, " ") + "\n"
	if unit := readRepositoryFile(t, "deploy/kmsd.service"); !strings.Contains(unit, want) {
		t.Errorf("deploy/kmsd.service does not have %s", want)
	}
}
