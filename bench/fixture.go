package bench

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"

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
	// shelved is after how many keys their objects are put aside.
	shelved = 100
)

// set names the KMS keys that items belong to, and what those are bound to.
type set struct {
	profile   Profile
	algorithm Algorithm // "": ENCRYPT_DECRYPT keys
	keys      int
	context   int // pairs
	versions  int // of all keys in the token; 0: as many as there are keys
}

func (s Scenario) set() set {
	if s.Operation == Sign {
		return set{algorithm: s.Algorithm, keys: s.keys(), versions: s.Server.Versions}
	}
	return set{profile: s.profile(), keys: s.keys(), context: s.Context, versions: s.Server.Versions}
}

// keyName is the name of the n-th KMS key of a set; sets of one profile share keys.
func (s set) keyName(n int) string {
	return fmt.Sprintf("%s/keys/%s", parent, s.keyID(n))
}

func (s set) keyID(n int) string {
	return fmt.Sprintf("bench-%s-%04d", cmp.Or(string(s.algorithm), string(s.profile)), n)
}

// template is what a key of the set is made from.
func (s set) template() *kmsv1.Key {
	switch {
	case s.algorithm == P256:
		return signingKey(kmsv1.Algorithm_ALGORITHM_EC_SIGN_P256_SHA256)
	case s.algorithm == RSA2048:
		return signingKey(kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PKCS1_2048_SHA256)
	case s.profile == Strict:
		return &kmsv1.Key{ProtectionProfile: kmsv1.ProtectionProfile_PROTECTION_PROFILE_STRICT}
	default:
		return &kmsv1.Key{ProtectionProfile: kmsv1.ProtectionProfile_PROTECTION_PROFILE_DERIVED}
	}
}

func signingKey(a kmsv1.Algorithm) *kmsv1.Key {
	return &kmsv1.Key{Purpose: kmsv1.Purpose_PURPOSE_ASYMMETRIC_SIGN, Algorithm: a}
}

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
	digest     []byte // to sign
	public     crypto.PublicKey
}

// fixture is the items of each set, ordered so that neighbours belong to different keys.
type fixture struct{ items map[set][]item }

func newFixture() *fixture { return &fixture{items: map[set][]item{}} }

// makeKeys makes the KMS keys of the sets, and what versions the token lacks then.
func (f *fixture) makeKeys(ctx context.Context, profile client.Profile, sets []set, objects *shelf) error {
	ids := map[string]set{}
	versions := 0
	for _, s := range sets {
		for n := range s.keys {
			ids[s.keyID(n)] = s
		}
		versions = max(versions, s.versions)
	}
	for n := range versions - len(ids) {
		ids[fmt.Sprintf("filler-%05d", n)] = set{profile: Derived}
	}
	return f.with(ctx, profile, func(c *client.Client) error {
		for chunk := range slices.Chunk(slices.Sorted(maps.Keys(ids)), shelved) {
			group, ctx := errgroup.WithContext(ctx)
			group.SetLimit(makers)
			for _, id := range chunk {
				group.Go(func() error {
					_, err := c.Keys().CreateKey(ctx, &kmsv1.CreateKeyRequest{
						Parent: parent, KeyId: id, Key: ids[id].template(),
					})
					return err
				})
			}
			if err := errors.Join(group.Wait(), objects.put()); err != nil {
				return fmt.Errorf("make the KMS keys of the scenarios: %w", err)
			}
		}
		return nil
	})
}

// makeItems makes the items of the sets.
func (f *fixture) makeItems(ctx context.Context, profile client.Profile, sets []set) error {
	return f.with(ctx, profile, func(c *client.Client) error {
		for _, s := range sets {
			if err := f.makeSet(ctx, c, s); err != nil {
				return fmt.Errorf("make the data keys of the scenarios: %w", err)
			}
		}
		return nil
	})
}

// with works with a client.
func (f *fixture) with(ctx context.Context, profile client.Profile, work func(*client.Client) error) error {
	c, err := client.Dial(ctx, profile)
	if err != nil {
		return err
	}
	return errors.Join(work(c), c.Close())
}

// makeSet has the service wrap data keys and encrypt payloads, or makes digests.
func (f *fixture) makeSet(ctx context.Context, c *client.Client, s set) error {
	each := (setItems + s.keys - 1) / s.keys
	items := make([]item, each*s.keys)
	group, making := errgroup.WithContext(ctx)
	group.SetLimit(makers)
	for n := range s.keys {
		group.Go(func() error {
			own := make([]*item, each)
			for i := range own {
				own[i] = &items[i*s.keys+n]
				own[i].key = s.keyName(n)
			}
			if s.algorithm != "" {
				return digestItems(making, c, s, n, own)
			}
			if err := wrapItems(making, c, s, n, own); err != nil {
				return err
			}
			return encryptItems(making, c, s, n, own)
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
