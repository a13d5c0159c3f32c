package kms

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
)

// Every row is whole and its own: the name leads back to it, and no two are the same
// computation.
func TestTableOfAlgorithms(t *testing.T) {
	t.Parallel()
	type computation struct {
		purpose Purpose
		spec    hsm.KeySpec
		scheme  hsm.Scheme
		hash    uint
	}
	seen := make(map[computation]Algorithm)
	usage := map[Purpose]hsm.Usage{
		PurposeAsymmetricSign: hsm.UsageSign, PurposeAsymmetricDecrypt: hsm.UsageDecrypt, PurposeMAC: hsm.UsageMAC,
	}
	for _, a := range Algorithms() {
		parsed, err := ParseAlgorithm(a.String())
		if err != nil || parsed != a {
			t.Errorf("%s parses as %s: %v", a, parsed, err)
		}
		row := a.row()
		c := computation{row.purpose, row.spec, row.scheme, uint(row.hash)}
		if other, ok := seen[c]; ok {
			t.Errorf("%s and %s are the same", a, other)
		}
		seen[c] = a
		if keySpec, algorithm := a.AWS(); keySpec == "" || algorithm == "" || (a.JWA() == "") != (a == AlgorithmAES256) {
			t.Errorf("%s is %q %q in AWS KMS, %q in JOSE", a, keySpec, algorithm, a.JWA())
		}
		if a.Purpose() == PurposeEncryptDecrypt {
			continue
		}
		spec := a.KeySpec(0)
		if spec.Usage() != usage[a.Purpose()] {
			t.Errorf("%s has keys of %s", a, spec)
		}
		if a.Purpose() == PurposeAsymmetricSign && (!spec.Has(row.scheme) || a.SignsMessages() != (a == AlgorithmEd25519)) {
			t.Errorf("%s: keys of %s sign with %s", a, spec, row.scheme)
		}
		if h := row.scheme.Hash(); h != 0 && h != a.Hash() || a.Hash() != 0 && !a.Hash().Available() {
			t.Errorf("%s has the hash %s", a, a.Hash())
		}
	}
	for _, p := range Purposes() {
		if d := p.DefaultAlgorithm(); d != 0 && d.Purpose() != p || (d == 0) != (p == PurposeAsymmetricDecrypt) {
			t.Errorf("the default of %s is %s", p, d)
		}
	}
	for _, none := range []Algorithm{0, Algorithm(len(algorithms)), 255} {
		if none.Valid() || none.Purpose() != 0 || none.String() != "ALGORITHM_UNSPECIFIED" || none.KeySpec(0) != 0 {
			t.Errorf("algorithm %d is %s", none, none)
		}
	}
}

// Each purpose takes its algorithms and no other, and only ENCRYPT_DECRYPT a profile.
func TestCombinations(t *testing.T) {
	t.Parallel()
	for _, p := range append(Purposes(), 0, 99) {
		for a := range Algorithm(255) {
			for _, profile := range []Profile{0, ProfileDerived, ProfileStrict, 3} {
				want := a.Valid() && a.Purpose() == p && (profile == 0) == (p != PurposeEncryptDecrypt) && profile < 3
				err := checkCombination(p, a, profile)
				if want != (err == nil) || err != nil && !errors.Is(err, ErrInvalidRequest) {
					t.Fatalf("%s with %s and %s: %v", p, a, profile, err)
				}
			}
		}
	}
}

// The lists of refusals are as short as package wire needs, and nothing is left out of them
// unsaid: the longest are those of ASYMMETRIC_SIGN.
func TestSomeAlgorithms(t *testing.T) {
	t.Parallel()
	for _, p := range Purposes() {
		all := algorithmsOf(p)
		for n := range len(all) + 1 {
			text, more := someOf(all[:n]), 0
			listed, rest, cut := strings.Cut(text, " and ")
			if cut {
				if _, err := fmt.Sscanf(rest, "%d more", &more); err != nil || more < 1 {
					t.Errorf("%d of %s: %q", n, p, text)
				}
			}
			if listed != namesOf(all[:n-more]) || len(listed) > maxListed {
				t.Errorf("%d of %s: %q", n, p, text)
			}
			if err := checkCombination(p, 0, 0); len(err.Error()) > 400 {
				t.Errorf("%d bytes: %v", len(err.Error()), err)
			}
		}
	}
}
