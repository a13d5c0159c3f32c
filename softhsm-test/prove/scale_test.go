package prove

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore"
)

const (
	// shortKeys is how many a plain test run has, and fewKeys what costs are compared with.
	shortKeys, fewKeys = 2000, 100
	// versionsEach is how many versions each key has.
	versionsEach = 3
	// bytesPerVersion bounds what a version takes of the heap, with its share of its key.
	bytesPerVersion = 2 << 10
	// longestStart bounds a start, from the opening of the store on.
	longestStart = 5 * time.Second
	// changesTimed is how many changes are timed, and costGrowth how much more one may cost.
	changesTimed, costGrowth = 400, 1.5
	// shortChanges is how many a plain test run makes.
	shortChanges = 20
)

// TestScale measures one service on many keys of three versions each: how long it takes to
// start, what a version takes of its memory, and what one change costs, against a service
// on few keys. The store is a real one on SQLite, filled by a few large changes. The token
// only lists the objects: SoftHSM2 would need minutes to make them, and most of the start
// to list them (about 20 µs each).
func TestScale(t *testing.T) {
	random := newRandom(t)
	keys, changes := count(shortKeys), shortChanges
	if given.bounds {
		changes = changesTimed
	}
	many, few := newCrowd(t, "disk", t.TempDir(), keys), newCrowd(t, "disk", t.TempDir(), fewKeys)
	memory, start := many.measure(t)
	few.serve(t)
	t.Logf("%d keys: started in %v, %d bytes of memory a version", keys, start.Round(time.Millisecond), memory)
	if memory > bytesPerVersion {
		t.Errorf("a version takes %d bytes of memory, want at most %d", memory, bytesPerVersion)
	}
	if given.bounds && start > longestStart {
		t.Errorf("the service started in %v, want at most %v", start, longestStart)
	}
	synced := compareCosts(t, many, few, changes, random)

	// The same without the disk: where files are kept in memory a sync costs nothing.
	dir := memoryDirectory(t)
	inMemory, fewInMemory := newCrowd(t, "memory", dir, keys), newCrowd(t, "memory", dir, fewKeys)
	inMemory.serve(t)
	fewInMemory.serve(t)
	unsynced := compareCosts(t, inMemory, fewInMemory, changes, random)
	closing(t, "prove-scale: ok, %d keys of %d versions: start %d ms, %d bytes a version, a change costs %.2f times that at %d keys, %.2f without the disk",
		keys, versionsEach, start.Milliseconds(), memory, synced, fewKeys, unsynced)
}

// memoryDirectory is a directory whose files are kept in memory, where there is one.
func memoryDirectory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "keyholt-prove-")
	if err != nil {
		t.Logf("no file system in memory (%v): both comparisons are with the disk", err)
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// crowd is a store with keys, and a token that holds their objects.
type crowd struct {
	where   string
	path    string // of the database
	token   *crowdedToken
	names   []kms.KeyName
	store   *keystore.Store
	service *kms.Service
	round   int
}

func newCrowd(t *testing.T, where, dir string, keys int) *crowd {
	t.Helper()
	c := &crowd{
		where: where, path: filepath.Join(dir, fmt.Sprintf("%s-%d.db", where, keys)),
		token: &crowdedToken{Token: hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open(), objects: make(map[hsm.UID]hsm.Object)},
	}
	c.openStore(t)
	change, err := c.change(keys)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.store.Update(t.Context(), 0, func(*kms.Delta) (*kms.Change, error) { return change, nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.store.Close(); err != nil {
		t.Fatal(err)
	}
	c.store = nil
	return c
}

// change makes the keys, with everything that a service fills in, and their objects.
func (c *crowd) change(keys int) (*kms.Change, error) {
	parent, err := kms.NewNamespaceName(kms.DefaultNamespace)
	if err != nil {
		return nil, err
	}
	made := time.Now().UTC().Truncate(time.Microsecond)
	change := &kms.Change{Namespaces: []*kms.Namespace{{Name: parent, CreateTime: made, CreatedBy: "x509:CN=ops"}}}
	for i := range keys {
		key := &kms.Key{
			Purpose: kms.PurposeEncryptDecrypt, Algorithm: kms.AlgorithmAES256, Profile: kms.ProfileDerived,
			Labels: map[string]string{"team": fmt.Sprintf("team-%d", i%50), "env": "production"}, RotationPeriod: 90 * 24 * time.Hour,
			Primary: versionsEach, CreateTime: made, CreatedBy: "x509:CN=ops",
		}
		spec := hsm.AES256Blocks
		if i%10 == 0 {
			key.Profile, spec = kms.ProfileStrict, hsm.AES256GCM
		}
		if key.Name, err = kms.NewKeyName(parent, fmt.Sprintf("customer-%06d", i)); err != nil {
			return nil, err
		}
		c.names, change.Keys = append(c.names, key.Name), append(change.Keys, key)
		for n := uint32(1); n <= versionsEach; n++ {
			digest := sha256.Sum256(binary.BigEndian.AppendUint32([]byte(key.Name.String()), n))
			v := &kms.Version{
				Name: key.Name.Version(n), UID: hsm.UID(digest[:16]), State: kms.StateEnabled, CreateTime: made,
				StateTime: made, StatePrincipal: "x509:CN=ops", FirstUse: made, Check: digest[:],
				RequestID: uuid.NewString(), RequestDigest: digest[:],
			}
			change.Versions = append(change.Versions, v)
			c.token.objects[v.UID] = hsm.Object{
				UID: v.UID, Label: "keyholt:" + c.store.ID() + ":1700000000", Spec: spec, Usable: true, Sensitive: true,
			}
		}
	}
	return change, nil
}

func (c *crowd) openStore(t *testing.T) {
	t.Helper()
	var err error
	if c.store, err = keystore.OpenStore(t.Context(), keystore.Config{Driver: "sqlite", DSN: c.path}, c.token); err != nil {
		t.Fatal(err)
	}
}

// serve opens the store and starts a service on it, until the end of the test.
func (c *crowd) serve(t *testing.T) {
	t.Helper()
	c.openStore(t)
	var err error
	c.service, err = kms.New(t.Context(), kms.Config{
		Token: c.token, Store: c.store, Authorizer: everybody{}, Auditor: nobody{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.service.Close()
		if err := c.store.Close(); err != nil {
			t.Error(err)
		}
	})
	if findings, err := c.service.Diagnose(t.Context(), kms.Principal{Name: "unix:0", Method: kms.MethodUnix}); err != nil || len(findings) == 0 {
		t.Fatalf("Diagnose: %d findings, %v", len(findings), err)
	}
	if n := c.service.Inventory().Unavailable; n != 0 {
		t.Fatalf("%d versions are unavailable", n)
	}
}

// measure is serve, and tells what of the heap each version takes, and how long it took.
func (c *crowd) measure(t *testing.T) (bytes int, start time.Duration) {
	t.Helper()
	before := heap()
	began := time.Now()
	c.serve(t)
	start = time.Since(began)
	return int(heap()-before) / (len(c.names) * versionsEach), start
}

// heap is how much of it is in use.
func heap() int64 {
	var stats runtime.MemStats
	for range 2 { // what finalizers free, the second collection does
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// update makes one change of one key, and returns how long it took.
func (c *crowd) update(t *testing.T, random *rand.Rand) time.Duration {
	t.Helper()
	c.round++
	labels := map[string]string{"round": fmt.Sprint(c.round)}
	name := c.names[random.IntN(len(c.names))]
	began := time.Now()
	_, err := c.service.UpdateKey(t.Context(), kms.Principal{Name: "unix:0", Method: kms.MethodUnix}, &kms.UpdateKeyRequest{Name: name, Labels: &labels})
	took := time.Since(began)
	if err != nil {
		t.Fatal(err)
	}
	return took
}

// compareCosts makes changes of both in turn, and returns by how much the median time is
// longer among many keys.
func compareCosts(t *testing.T, many, few *crowd, changes int, random *rand.Rand) float64 {
	t.Helper()
	var times [2][]time.Duration
	for range changes {
		for i, c := range [2]*crowd{many, few} {
			times[i] = append(times[i], c.update(t, random))
		}
	}
	for i := range times {
		slices.Sort(times[i])
	}
	much, little := percentile(times[0], 50), percentile(times[1], 50)
	growth := float64(much) / float64(little)
	t.Logf("one change, in files on %s: %v at %d keys, %v at %d: %.2f times", many.where, much, len(many.names), little, len(few.names), growth)
	if given.bounds && growth > costGrowth {
		t.Errorf("one change costs %.2f times as much as at %d keys, want at most %.2f", growth, len(few.names), costGrowth)
	}
	return growth
}

// crowdedToken is a token in memory that also lists many objects, which cannot be used.
type crowdedToken struct {
	hsm.Token
	objects map[hsm.UID]hsm.Object
}

// Keys lists them all.
func (c *crowdedToken) Keys(ctx context.Context) ([]hsm.Object, error) {
	list, err := c.Token.Keys(ctx)
	for _, o := range c.objects {
		list = append(list, o)
	}
	return list, err
}

// Key looks one up.
func (c *crowdedToken) Key(ctx context.Context, uid hsm.UID) (hsm.Object, error) {
	if o, ok := c.objects[uid]; ok {
		return o, nil
	}
	return c.Token.Key(ctx, uid)
}

// everybody may do everything.
type everybody struct{}

func (everybody) Authorize(context.Context, *kms.Question) kms.Decision {
	return kms.Decision{Allowed: true}
}

// nobody reads records.
type nobody struct{}

func (nobody) Record(context.Context, *kms.Event) error { return nil }
