package telemetry

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

// TestContract: a watched token is still a token.
func TestContract(t *testing.T) {
	var keys hsmtest.RSAKeys
	hsmtest.Run(t, func(t testing.TB) hsmtest.Fixture {
		memory := hsmtest.NewMemory(hsmtest.MemoryConfig{RSAKeys: &keys})
		open := func(t testing.TB) hsm.Token {
			token := Token(memory.Open(), NewMetrics("v1.2.3"), record(t, 1).Tracing)
			t.Cleanup(func() { must(t, token.Close()) })
			return token
		}
		return hsmtest.Fixture{Token: open(t), Another: open}
	})
}

// TestEveryOperationIsCounted calls every method of a token that takes a context: one that
// the decorator forgot would be missing.
func TestEveryOperationIsCounted(t *testing.T) {
	m := NewMetrics("v1.2.3")
	memory := hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open()
	token := Token(memory, m, nil)
	context := reflect.TypeFor[context.Context]()
	methods := 0
	for method := range reflect.TypeFor[hsm.Token]().Methods() {
		if method.Type.NumIn() == 0 || method.Type.In(0) != context {
			continue
		}
		methods++
		arguments := []reflect.Value{reflect.ValueOf(t.Context())}
		for i := 1; i < method.Type.NumIn(); i++ {
			arguments = append(arguments, reflect.Zero(method.Type.In(i)))
		}
		reflect.ValueOf(token).MethodByName(method.Name).Call(arguments)
	}
	if methods != int(operations) {
		t.Errorf("a token has %d methods, and %d are counted", methods, operations)
	}
	for _, name := range operationNames {
		m.want(t, map[string]float64{
			fmt.Sprintf(`keyholt_token_calls_total{operation=%q}`, name):                1, // for the token keeps no count
			fmt.Sprintf(`keyholt_token_operation_duration_seconds{operation=%q}`, name): 1,
		})
	}
	must(t, token.Close())
}

// TestTokenOutcomes: each sentinel of a token has an outcome of its own.
func TestTokenOutcomes(t *testing.T) {
	seen := map[string]bool{tokenOK: true, tokenOther: true}
	for _, row := range tokenOutcomes {
		if got := tokenOutcome(fmt.Errorf("C_Encrypt: %w", row.err)); got != row.name || seen[got] {
			t.Errorf("%v is %q", row.err, got)
		}
		seen[row.name] = true
	}
	if tokenOutcome(nil) != tokenOK || tokenOutcome(errBroken) != tokenOther {
		t.Error("success, or an unknown error")
	}
}
