package hsmtest

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // of RSA-OAEP
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"math/big"
	"sync"

	"github.com/keyholt/keyholt/hsm"
)

// memoryKey is one key. Its fields are guarded by Memory.mu; none of its values ever
// leaves this package.
type memoryKey struct {
	label  string
	spec   hsm.KeySpec
	usable bool
	local  bool

	block   cipher.Block  // of AES keys
	secret  []byte        // of HMAC keys
	private crypto.Signer // of pairs: *ecdsa.PrivateKey, ed25519.PrivateKey, *rsa.PrivateKey
}

// newMemoryKey makes a secret key of a known value.
func newMemoryKey(label string, spec hsm.KeySpec, value []byte) (*memoryKey, error) {
	k := &memoryKey{label: label, spec: spec, usable: true}
	if spec.Usage() == hsm.UsageMAC {
		k.secret = append([]byte(nil), value...)
		return k, nil
	}
	block, err := aes.NewCipher(value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hsm.ErrArgument, err)
	}
	k.block = block
	return k, nil
}

// generate makes a random key.
func (m *Memory) generate(label string, spec hsm.KeySpec) (*memoryKey, error) {
	if m.cfg.RSAKeys == nil {
		return generateMemoryKey(label, spec, generateRSA)
	}
	return generateMemoryKey(label, spec, func(bits int) (*rsa.PrivateKey, error) {
		return m.cfg.RSAKeys.key(bits, int(m.rsaMade.Add(1)))
	})
}

func generateMemoryKey(label string, spec hsm.KeySpec, newRSA func(bits int) (*rsa.PrivateKey, error)) (k *memoryKey, err error) {
	if spec.IsPair() {
		private, err := generatePrivateKey(spec, newRSA)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", hsm.ErrUnavailable, err)
		}
		return &memoryKey{label: label, spec: spec, usable: true, local: true, private: private}, nil
	}
	value := make([]byte, spec.Size())
	rand.Read(value)
	defer clear(value)
	if k, err = newMemoryKey(label, spec, value); err != nil {
		return nil, err
	}
	k.local = true
	return k, nil
}

// generatePrivateKey makes the private key of a pair.
func generatePrivateKey(spec hsm.KeySpec, newRSA func(bits int) (*rsa.PrivateKey, error)) (crypto.Signer, error) {
	switch {
	case spec.IsRSA():
		return newRSA(8 * spec.Size())
	case spec == hsm.Ed25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	default:
		return ecdsa.GenerateKey(curveOf(spec), rand.Reader)
	}
}

func generateRSA(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }

// RSAKeys are RSA keys that the tokens of several [Memory] share, because making them takes
// time: the n-th key that a Memory generates is the same in each, and no two of one Memory
// are. It may be used concurrently.
type RSAKeys struct {
	mu   sync.Mutex
	keys map[[2]int]*rsa.PrivateKey // by size and number
}

// key is the n-th key of a Memory if it has so many bits.
func (r *RSAKeys) key(bits, n int) (*rsa.PrivateKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if key, ok := r.keys[[2]int{bits, n}]; ok {
		return key, nil
	}
	key, err := generateRSA(bits)
	if err != nil {
		return nil, err
	}
	if r.keys == nil {
		r.keys = make(map[[2]int]*rsa.PrivateKey)
	}
	r.keys[[2]int{bits, n}] = key
	return key, nil
}

// curveOf is the curve of an ECDSA specification.
func curveOf(spec hsm.KeySpec) elliptic.Curve {
	switch spec {
	case hsm.ECDSAP256:
		return elliptic.P256()
	case hsm.ECDSAP384:
		return elliptic.P384()
	default:
		return elliptic.P521()
	}
}

// sign makes a signature of an input that was checked.
func (k *memoryKey) sign(scheme hsm.Scheme, input []byte) ([]byte, error) {
	switch key := k.private.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, input)
		if err != nil {
			return nil, err
		}
		size := k.spec.Size()
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), nil
	case ed25519.PrivateKey:
		return ed25519.Sign(key, input), nil
	case *rsa.PrivateKey:
		if scheme.IsPSS() {
			return rsa.SignPSS(rand.Reader, key, scheme.Hash(), input, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.SignPKCS1v15(nil, key, scheme.Hash(), input)
	default:
		return nil, hsm.ErrKeyNotPermitted
	}
}

// tag is the HMAC of a message.
func (k *memoryKey) tag(message []byte) []byte {
	mac := hmac.New(k.spec.Hash().New, k.secret)
	mac.Write(message)
	return mac.Sum(nil)
}

// Verify checks a signature as hsm.Signer makes it: for tests of what signs with a token.
func Verify(public crypto.PublicKey, scheme hsm.Scheme, input, signature []byte) bool {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		half := len(signature) / 2
		r, s := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
		return ecdsa.Verify(key, input, r, s)
	case ed25519.PublicKey:
		return ed25519.Verify(key, input, signature)
	case *rsa.PublicKey:
		if scheme.IsPSS() {
			options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
			return rsa.VerifyPSS(key, scheme.Hash(), input, signature, options) == nil
		}
		return rsa.VerifyPKCS1v15(key, scheme.Hash(), input, signature) == nil
	default:
		return false
	}
}
