package kms

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The documentation has the table as it is.
func TestAlgorithmsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "docs", "algorithms.md"))
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, a := range Algorithms() {
		keySpec, algorithm := a.AWS()
		takes := "digests of " + a.Hash().String()
		switch {
		case a.Purpose() == PurposeAsymmetricDecrypt:
			takes = fmt.Sprintf("ciphertexts of %d bytes, %d bytes of plaintext at most", a.OutputSize(), a.OutputSize()-2*a.Hash().Size()-2)
		case a.SignsMessages() || a.Purpose() == PurposeMAC:
			takes = "messages"
		case a == AlgorithmAES256:
			takes = "payloads and data keys"
		}
		jose := "-"
		if a.JWA() != "" {
			jose = "`" + a.JWA() + "`"
		}
		fmt.Fprintf(&table, "| `%s` | `%s` | %s | %s | `%s`, `%s` |\n", a, a.Purpose(), takes, jose, keySpec, algorithm)
	}
	if !strings.Contains(string(text), table.String()) {
		t.Errorf("docs/algorithms.md does not have the table of algorithms:\n%s", table.String())
	}
}
