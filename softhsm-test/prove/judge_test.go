package prove

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// fabricated is a target whose use was ended by a call that returned at 100 ms, at
// revision 7.
func fabricated(t *testing.T) *target {
	t.Helper()
	parent, err := kms.NewNamespaceName(kms.DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	key, err := kms.NewKeyName(parent, "fabricated")
	if err != nil {
		t.Fatal(err)
	}
	made := &target{version: key.Version(1)}
	made.ended(&change{returned: 100 * time.Millisecond, spread: kms.Spread{Revision: 7}})
	return made
}

// What the proofs look for, they find.
func TestJudges(t *testing.T) {
	const before, after = 99 * time.Millisecond, 101 * time.Millisecond
	for name, c := range map[string]struct {
		uses    []use
		clients clientVerdict
		records string
		servers serverVerdict
	}{
		"nothing late": {
			uses:    []use{{sent: before, items: 3}, {sent: before, items: 1, walled: true}},
			clients: clientVerdict{served: 3},
			records: `{"outcome":"OK","revision":6,"checked_ns":99000000,"items":[{"count":3,"version":"V","outcome":"OK"}]}
{"outcome":"OK","revision":7,"checked_ns":101000000,"items":[{"count":2,"version":"V","outcome":"KEY_VERSION_REVOKED"}]}
{"outcome":"LEASE_LAPSED","items":[{"count":2,"version":"V","outcome":"LEASE_LAPSED"}]}
{"outcome":"OK","action":"RevokeKeyVersion","spread":{"revision":7}}
`,
			servers: serverVerdict{checks: 2, served: 3},
		},
		"served": {
			uses:    []use{{sent: before, items: 3}, {sent: after, items: 2}},
			clients: clientVerdict{served: 5, late: 2},
			records: `{"outcome":"OK","revision":7,"checked_ns":101000000,"items":[{"count":2,"version":"other","outcome":"OK"},{"count":4,"version":"V","outcome":"OK"}]}
`,
			servers: serverVerdict{checks: 1, served: 4, late: 4},
		},
		"stopped by the token only": {
			uses:    []use{{sent: after, items: 2, walled: true}},
			clients: clientVerdict{walled: 2},
			records: `{"outcome":"OK","revision":6,"checked_ns":101000000,"items":[{"count":2,"version":"V","outcome":"TOKEN_REFUSED"}]}
`,
			servers: serverVerdict{checks: 1, stale: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			made := fabricated(t)
			for _, u := range c.uses {
				made.used(u)
			}
			clients := judgeClients([]*target{made})
			clients.first = nil
			if clients != c.clients {
				t.Errorf("clients: %+v, want %+v", clients, c.clients)
			}
			judge := newServerJudge(changesOf([]*target{made}))
			judge.ends["V"] = made.change()
			path := filepath.Join(t.TempDir(), "audit.jsonl")
			if err := os.WriteFile(path, []byte(c.records), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := readRecords(path, judge.add); err != nil {
				t.Fatal(err)
			}
			if wrong := c.servers.late+c.servers.stale > 0; wrong != (judge.first != nil) {
				t.Errorf("the record in question: %+v", judge.first)
			}
			servers := judge.serverVerdict
			servers.first = nil
			if servers != c.servers {
				t.Errorf("servers: %+v, want %+v", servers, c.servers)
			}
		})
	}
}
