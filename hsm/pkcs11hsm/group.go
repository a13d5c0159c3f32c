package pkcs11hsm

import (
	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// found is one key object of the token.
type found struct {
	handle     objectHandle
	class      uint
	attributes attributeSet
}

// group is the objects with one CKA_ID. It is a key if it is one secret key, or one private
// key with or without its public key. What else it may be came about by half a destruction
// or by another hand, and is of no use.
type group struct {
	uid hsm.UID

	main   *found // a secret or private key
	public *found
	extra  []found // whatever is more than a key has
}

func (g *group) add(f found) {
	switch {
	case f.class == pkcs11.CKO_PUBLIC_KEY && g.public == nil:
		g.public = &f
	case f.class != pkcs11.CKO_PUBLIC_KEY && g.main == nil:
		g.main = &f
	default:
		g.extra = append(g.extra, f)
	}
}

// ambiguous: the objects cannot be one key.
func (g *group) ambiguous() bool {
	return len(g.extra) > 0 || g.public != nil && g.main != nil && g.main.class != pkcs11.CKO_PRIVATE_KEY
}

// spec is the specification of the key; zero if it is none.
func (g *group) spec() hsm.KeySpec {
	if g.main == nil || g.ambiguous() {
		return 0
	}
	var public attributeSet
	if g.public != nil {
		public = g.public.attributes
	}
	return g.main.attributes.spec(public)
}

// object is the report of the key.
func (g *group) object() hsm.Object {
	if g.main == nil {
		return g.public.attributes.object(g.uid, 0)
	}
	return g.main.attributes.object(g.uid, g.spec())
}

// keyHandle is the key as the hot path needs it.
func (g *group) keyHandle() keyHandle {
	k := keyHandle{spec: g.spec(), ambiguous: g.ambiguous()}
	if g.main != nil {
		k.handle = g.main.handle
	}
	if g.public != nil {
		k.public = g.public.handle
	}
	return k
}

// handles are those of all objects, the ones that hold a secret first: what is left of a
// destruction that was cut short should be a public key.
func (g *group) handles() (list []objectHandle) {
	all := g.extra
	if g.main != nil {
		all = append([]found{*g.main}, all...)
	}
	if g.public != nil {
		all = append(all, *g.public)
	}
	for _, public := range []bool{false, true} {
		for _, f := range all {
			if (f.class == pkcs11.CKO_PUBLIC_KEY) == public {
				list = append(list, f.handle)
			}
		}
	}
	return list
}

// missing names what a key of the specification has and this one has not.
func (g *group) missing(spec hsm.KeySpec) string {
	switch {
	case g.ambiguous():
		return "several objects have its UID"
	case g.main == nil:
		return "its private key is missing"
	case spec.IsPair() && g.public == nil:
		return "its public key is missing"
	default:
		return ""
	}
}
