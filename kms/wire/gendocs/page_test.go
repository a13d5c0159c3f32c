package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/keyholt/keyholt/kms/wire"
)

func TestCommittedPageIsCurrent(t *testing.T) {
	committed, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := errorsPage()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(committed, page) {
		t.Error("docs/errors.md is not what the table of errors says: run go generate ./kms/wire")
	}
}

func TestPageHasEveryReason(t *testing.T) {
	rendered, err := errorsPage()
	if err != nil {
		t.Fatal(err)
	}
	page := string(rendered)
	for _, row := range wire.Rows() {
		if !strings.Contains(page, "| `"+row.Reason+"` | `"+codeName(row.Code)+"` |") {
			t.Errorf("no line for %s", row.Reason)
		}
	}
}

func TestCodeNames(t *testing.T) {
	for code, want := range map[codes.Code]string{
		codes.InvalidArgument:    "INVALID_ARGUMENT",
		codes.FailedPrecondition: "FAILED_PRECONDITION",
		codes.Internal:           "INTERNAL",
		codes.DataLoss:           "DATA_LOSS",
		codes.Canceled:           "CANCELED",
	} {
		if got := codeName(code); got != want {
			t.Errorf("codeName(%d) = %s, want %s", code, got, want)
		}
	}
}
