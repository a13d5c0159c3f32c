package telemetry

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyholt/keyholt/kms"
)

// inventoryAge is how old an inventory may be. Counting takes a time proportional to the
// number of key versions, and any number of scrapers may ask.
const inventoryAge = 5 * time.Second

// keyMetrics count what the service manages, when they are asked.
type keyMetrics struct{ inventory *inventory }

func newKeyMetrics() keyMetrics { return keyMetrics{&inventory{now: time.Now}} }

func (k *keyMetrics) collectors() []prometheus.Collector { return []prometheus.Collector{k.inventory} }

// Inventory makes take the source of the numbers of keys and key versions.
func (m *Metrics) Inventory(take func() kms.Inventory) {
	if m == nil {
		return
	}
	i := m.keys.inventory
	i.mu.Lock()
	defer i.mu.Unlock()
	i.take, i.at = take, time.Time{}
}

var (
	namespacesDesc = prometheus.NewDesc("keyholt_namespaces", "Namespaces.", nil, nil)
	keysDesc       = prometheus.NewDesc("keyholt_keys", "Keys, by purpose, and by protection profile where they have one.",
		[]string{"purpose", "profile"}, nil)
	versionsDesc = prometheus.NewDesc("keyholt_key_versions", "Key versions, by state.", []string{"state"}, nil)
	unusableDesc = prometheus.NewDesc("keyholt_key_versions_unavailable",
		"Key versions whose token object is missing, switched off or not the one it should be.", nil, nil)
)

// The series that are there from the start, with 0 if need be.
var (
	everyProfile = [...]kms.Profile{kms.ProfileDerived, kms.ProfileStrict}
	everyState   = [...]kms.State{
		kms.StateCreating, kms.StateEnabled, kms.StateRewrapOnly, kms.StateDisabled, kms.StateRevoked,
		kms.StateDestroyScheduled, kms.StateDestroyed,
	}
)

// inventory collects a kms.Inventory.
type inventory struct {
	now func() time.Time

	mu    sync.Mutex
	take  func() kms.Inventory // nil: none yet
	taken kms.Inventory
	at    time.Time
}

// Describe implements [prometheus.Collector].
func (*inventory) Describe(descs chan<- *prometheus.Desc) {
	descs <- namespacesDesc
	descs <- keysDesc
	descs <- versionsDesc
	descs <- unusableDesc
}

// Collect implements [prometheus.Collector].
func (i *inventory) Collect(metrics chan<- prometheus.Metric) {
	taken, ok := i.current()
	if !ok {
		return
	}
	gauge := func(desc *prometheus.Desc, value int, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	gauge(namespacesDesc, taken.Namespaces)
	for _, profile := range everyProfile {
		gauge(keysDesc, taken.Keys[profile], kms.PurposeEncryptDecrypt.String(), profile.String())
	}
	for _, purpose := range kms.Purposes() {
		if purpose != kms.PurposeEncryptDecrypt {
			gauge(keysDesc, taken.Purposes[purpose], purpose.String(), "")
		}
	}
	for _, state := range everyState {
		gauge(versionsDesc, taken.Versions[state], state.String())
	}
	gauge(unusableDesc, taken.Unavailable)
}

func (i *inventory) current() (kms.Inventory, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.take == nil {
		return kms.Inventory{}, false
	}
	if now := i.now(); i.at.IsZero() || now.Sub(i.at) >= inventoryAge {
		i.taken, i.at = i.take(), now
	}
	return i.taken, true
}
