package bench

import (
	"context"
	"crypto/rand"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/keyholt/keyholt/kms/client"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

const (
	parent      = "namespaces/default"
	dataKeySize = 32 // bytes
	payloadSize = 64 // bytes, of encrypt and decrypt
	// setItems is how many items there are to choose from: a full batch, and so many
	// unary requests before the first is made again.
	setItems = 4096
	// makers is how many calls at once make keys. The token makes one at a time.
	makers = 4
)

// set names the KMS keys that items belong to, and what those are bound to.
type set struct {
	profile  Profile
	keys     int
	context  int // pairs
	versions int // of all keys together; 0: one of each
}

func (s Scenario) set() set {
	return set{profile: s.profile(), keys: s.keys(), context: s.Context, versions: s.Server.Versions}
}

// keyName is the name of the n-th KMS key of a set; sets of one profile share keys.
func (s set) keyName(n int) string {
	return fmt.Sprintf("%s/keys/%s", parent, s.keyID(n))
}

func (s set) keyID(n int) string { return fmt.Sprintf("bench-%s-%04d", s.profile, n) }

// pairs is the encryption context of the set's items.
func (s set) pairs() map[string]string {
	if s.context == 0 {
		return nil
	}
	pairs := make(map[string]string, s.context)
	for i := range s.context {
		pairs[fmt.Sprintf("attribute-%d", i)] = fmt.Sprintf("value-of-attribute-%d", i)
	}
	return pairs
}

// item is something to work on.
type item struct {
	key        string // resource name
	dataKey    []byte
	wrapped    []byte // dataKey
	payload    []byte
	ciphertext []byte // payload
}

// fixture is the items of each set, ordered so that neighbours belong to different keys.
type fixture struct {
	items map[set][]item
	made  map[string]bool // keys, by id
}

func newFixture() *fixture {
	return &fixture{items: map[set][]item{}, made: map[string]bool{}}
}

// fill makes the keys and the items of the sets.
func (f *fixture) fill(ctx context.Context, profile client.Profile, sets []set) error {
	c, err := client.Dial(ctx, profile)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // everything was answered
	for _, s := range sets {
		if err := f.makeKeys(ctx, c, s); err != nil {
			return fmt.Errorf("make the KMS keys of the scenarios: %w", err)
		}
		if err := f.makeItems(ctx, c, s); err != nil {
			return fmt.Errorf("make the data keys of the scenarios: %w", err)
		}
	}
	return nil
}

// makeKeys makes those keys of a set that no other has. The versions that are left over
// when each key has one are rotations.
func (f *fixture) makeKeys(ctx context.Context, c *client.Client, s set) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(makers)
	for n := range s.keys {
		if f.made[s.keyID(n)] {
			continue
		}
		f.made[s.keyID(n)] = true
		group.Go(func() error {
			_, err := c.Keys().CreateKey(ctx, &kmsv1.CreateKeyRequest{
				Parent: parent, KeyId: s.keyID(n), Key: &kmsv1.Key{ProtectionProfile: protection(s.profile)},
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return rotations(ctx, c, s)
}

// fillerKeys share the versions that only have to be there, so that none has thousands.
const fillerKeys = 100

// rotations brings the token to the set's number of versions.
func rotations(ctx context.Context, c *client.Client, s set) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(makers)
	fillers := min(fillerKeys, s.versions-s.keys)
	for n := range max(fillers, 0) {
		group.Go(func() error {
			name := set{profile: s.profile, keys: s.keys}.keyName(s.keys + n)
			_, err := c.Keys().CreateKey(ctx, &kmsv1.CreateKeyRequest{
				Parent: parent, KeyId: s.keyID(s.keys + n), Key: &kmsv1.Key{ProtectionProfile: protection(s.profile)},
			})
			for made := s.keys + fillers + n; made < s.versions && err == nil; made += fillers {
				_, err = c.Keys().RotateKey(ctx, &kmsv1.RotateKeyRequest{Name: name})
			}
			return err
		})
	}
	return group.Wait()
}

func protection(p Profile) kmsv1.ProtectionProfile {
	if p == Strict {
		return kmsv1.ProtectionProfile_PROTECTION_PROFILE_STRICT
	}
	return kmsv1.ProtectionProfile_PROTECTION_PROFILE_DERIVED
}

// makeItems has the service wrap data keys and encrypt payloads.
func (f *fixture) makeItems(ctx context.Context, c *client.Client, s set) error {
	each := (setItems + s.keys - 1) / s.keys
	items := make([]item, each*s.keys)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(makers)
	for n := range s.keys {
		group.Go(func() error {
			own := make([]*item, each)
			for i := range own {
				own[i] = &items[i*s.keys+n]
				own[i].key = s.keyName(n)
			}
			if err := wrapItems(ctx, c, s, n, own); err != nil {
				return err
			}
			return encryptItems(ctx, c, s, n, own)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	f.items[s] = items
	return nil
}

func wrapItems(ctx context.Context, c *client.Client, s set, n int, items []*item) error {
	answer, err := c.Crypto().GenerateDataKeys(ctx, &kmsv1.GenerateDataKeysRequest{
		Key: s.keyName(n), Count: int32(len(items)), Size: dataKeySize, EncryptionContext: s.pairs(),
	})
	if err != nil {
		return err
	}
	if err := checkGenerated(answer, len(items)); err != nil {
		return err
	}
	for i, result := range answer.GetResults() {
		items[i].dataKey, items[i].wrapped = result.GetDataKey(), result.GetWrappedDataKey()
	}
	return nil
}

func encryptItems(ctx context.Context, c *client.Client, s set, n int, items []*item) error {
	request := &kmsv1.BatchEncryptRequest{Parent: parent, Key: s.keyName(n), EncryptionContext: s.pairs()}
	for _, it := range items {
		it.payload = make([]byte, payloadSize)
		_, _ = rand.Read(it.payload) // never fails
		request.Items = append(request.Items, &kmsv1.BatchEncryptRequest_Item{Plaintext: it.payload})
	}
	answer, err := c.Crypto().BatchEncrypt(ctx, request)
	if err != nil {
		return err
	}
	if err := checkEncrypted(answer, len(items)); err != nil {
		return err
	}
	for i, result := range answer.GetResults() {
		items[i].ciphertext = result.GetCiphertext()
	}
	return nil
}
