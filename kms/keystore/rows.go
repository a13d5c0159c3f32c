package keystore

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// Each resource has two functions that are each other's inverse: one makes the record
// that stands for it, the other reads it back from a record whose seal is good.

func namespaceRecord(n *kms.Namespace) (*record, error) {
	r := &record{
		fixed:    []any{n.Name.ID()},
		content:  []any{n.CreateTime.UnixMicro(), n.CreatedBy},
		revision: n.Revision,
	}
	return r, checkTexts(n.Name.String(), r)
}

func readNamespace(r *record) (*kms.Namespace, error) {
	name, err := kms.NewNamespaceName(columnText(r.fixed[0]))
	if err != nil {
		return nil, err
	}
	c := columns{values: r.content}
	n := &kms.Namespace{
		Name:       name,
		CreateTime: c.time(),
		CreatedBy:  c.text(),
		Revision:   r.revision,
	}
	return n, c.err
}

func keyRecord(k *kms.Key) (*record, error) {
	labels, err := labelsValue(k.Labels)
	if err != nil {
		return nil, err
	}
	r := &record{
		fixed: keyFixed(k),
		content: []any{labels, int64(k.RotationPeriod), int64(k.Primary),
			k.CreateTime.UnixMicro(), k.CreatedBy},
		revision: k.Revision,
	}
	// JSON would hide what is wrong with a label: its encoder replaces it.
	for name, value := range k.Labels {
		if err := checkText(k.Name.String(), name, value); err != nil {
			return nil, err
		}
	}
	return r, checkTexts(k.Name.String(), r)
}

func keyFixed(k *kms.Key) []any {
	return []any{k.Name.Namespace().ID(), k.Name.ID(), k.Purpose.String(), k.Algorithm.String(), profileValue(k.Profile)}
}

// readKey reads a key.
func readKey(r *record) (*kms.Key, error) {
	namespace, err := kms.NewNamespaceName(columnText(r.fixed[0]))
	if err != nil {
		return nil, err
	}
	return readKeyOf(namespace, r)
}

// readKeyOf reads the key of a namespace, whose name it shares.
func readKeyOf(namespace kms.NamespaceName, r *record) (*kms.Key, error) {
	name, err := kms.NewKeyName(namespace, columnText(r.fixed[1]))
	if err != nil {
		return nil, err
	}
	f, c := columns{values: r.fixed[2:]}, columns{values: r.content}
	k := &kms.Key{
		Name:           name,
		Purpose:        enum(&f, purposes),
		Algorithm:      enum(&f, algorithms),
		Profile:        f.optionalProfile(),
		Labels:         c.labels(),
		RotationPeriod: c.duration(),
		Primary:        c.number(),
		CreateTime:     c.time(),
		CreatedBy:      c.text(),
		Revision:       r.revision,
	}
	if f.err != nil {
		return nil, f.err
	}
	return k, c.err
}

func versionRecord(v *kms.Version) (*record, error) {
	attributes, err := attributesValue(&v.Attributes)
	if err != nil {
		return nil, err
	}
	r := &record{
		fixed: versionFixed(v),
		content: []any{v.State.String(), v.CreateTime.UnixMicro(), timeValue(v.StateTime), v.StatePrincipal, v.StateReason,
			timeValue(v.DestroyTime), stateValue(v.RestoreTo), int64(v.Epoch),
			timeValue(v.FirstUse), bytesValue(v.Check), attributes, boolValue(v.Imported), v.RequestID, bytesValue(v.RequestDigest)},
		revision: v.Revision,
	}
	return r, checkTexts(v.Name.String(), r)
}

func versionFixed(v *kms.Version) []any {
	key := v.Name.Key()
	return []any{key.Namespace().ID(), key.ID(), int64(v.Name.Number()), v.UID.String()}
}

// readVersion reads a key version.
func readVersion(r *record) (*kms.Version, error) {
	namespace, err := kms.NewNamespaceName(columnText(r.fixed[0]))
	if err != nil {
		return nil, err
	}
	key, err := kms.NewKeyName(namespace, columnText(r.fixed[1]))
	if err != nil {
		return nil, err
	}
	return readVersionOf(key, r, nil)
}

// readVersionOf reads a version of a key, whose name it shares; as it does the
// attributes of versions that had the same, which are kept in known unless that is nil.
func readVersionOf(key kms.KeyName, r *record, known map[string]kms.ObjectAttributes) (*kms.Version, error) {
	f, c := columns{values: r.fixed[2:]}, columns{values: r.content}
	v := &kms.Version{
		Name:           key.Version(f.number()),
		UID:            f.uid(),
		State:          enum(&c, states),
		CreateTime:     c.time(),
		StateTime:      c.time(),
		StatePrincipal: c.text(),
		StateReason:    c.text(),
		DestroyTime:    c.time(),
		RestoreTo:      c.optionalState(),
		Epoch:          c.count(),
		FirstUse:       c.time(),
		Check:          c.bytes(),
		Attributes:     c.attributes(known),
		Imported:       c.bool(),
		RequestID:      c.text(),
		RequestDigest:  c.bytes(),
		Revision:       r.revision,
	}
	if f.err != nil {
		return nil, f.err
	}
	if v.Name.IsZero() {
		return nil, fmt.Errorf("the version number is 0")
	}
	return v, c.err
}

func reservationRecord(uid hsm.UID, taken int64) *record {
	return &record{fixed: []any{uid.String()}, content: []any{taken}}
}

func readReservation(r *record) (taken int64, err error) {
	c := columns{values: r.content}
	taken = c.integer()
	if taken < 0 {
		c.fail("%d encryptions were taken", taken)
	}
	return taken, c.err
}

func originRecord(o *kms.Origin) (*record, error) {
	r := &record{
		fixed:    []any{int64(1)},
		content:  []any{int64(o.Epoch), o.Time.UnixMicro(), o.Principal, o.Reason},
		revision: o.Revision,
	}
	return r, checkTexts(originTable.resource(nil), r)
}

func readOrigin(r *record) (*kms.Origin, error) {
	c := columns{values: r.content}
	o := &kms.Origin{
		Epoch:     c.count(),
		Time:      c.time(),
		Principal: c.text(),
		Reason:    c.text(),
		Revision:  r.revision,
	}
	return o, c.err
}

func orphanRecord(o *kms.Orphan) (*record, error) {
	r := &record{
		fixed:    orphanFixed(o),
		content:  []any{o.Label, o.DestroyTime.UnixMicro(), o.Principal},
		revision: o.Revision,
	}
	return r, checkTexts(orphanTable.resource(r.fixed), r)
}

func orphanFixed(o *kms.Orphan) []any { return []any{o.UID.String()} }

func readOrphan(r *record) (*kms.Orphan, error) {
	f, c := columns{values: r.fixed}, columns{values: r.content}
	o := &kms.Orphan{
		UID:         f.uid(),
		Label:       c.text(),
		DestroyTime: c.time(),
		Principal:   c.text(),
		Revision:    r.revision,
	}
	if f.err != nil {
		return nil, f.err
	}
	return o, c.err
}

func importJobRecord(j *kms.ImportJob) (*record, error) {
	attributes, err := attributesValue(&j.Attributes)
	if err != nil {
		return nil, err
	}
	r := &record{
		fixed: importJobFixed(j),
		content: []any{j.State.String(), j.CreateTime.UnixMicro(), j.CreatedBy, j.ExpireTime.UnixMicro(),
			bytesValue(j.PublicKey), attributes, j.RequestID, bytesValue(j.RequestDigest)},
		revision: j.Revision,
	}
	return r, checkTexts(j.Name.String(), r)
}

func importJobFixed(j *kms.ImportJob) []any {
	return []any{j.Name.Namespace().ID(), j.Name.ID(), j.UID.String(), j.Method.String()}
}

func readImportJob(r *record) (*kms.ImportJob, error) {
	namespace, err := kms.NewNamespaceName(columnText(r.fixed[0]))
	if err != nil {
		return nil, err
	}
	name, err := kms.NewImportJobName(namespace, columnText(r.fixed[1]))
	if err != nil {
		return nil, err
	}
	f, c := columns{values: r.fixed[2:]}, columns{values: r.content}
	j := &kms.ImportJob{
		Name:          name,
		UID:           f.uid(),
		Method:        enum(&f, importMethods),
		State:         enum(&c, importJobStates),
		CreateTime:    c.time(),
		CreatedBy:     c.text(),
		ExpireTime:    c.time(),
		PublicKey:     c.bytes(),
		Attributes:    c.attributes(nil),
		RequestID:     c.text(),
		RequestDigest: c.bytes(),
		Revision:      r.revision,
	}
	if f.err != nil {
		return nil, f.err
	}
	return j, c.err
}

// columnText returns the value of a text column, or nothing if it is of another type.
func columnText(value any) string {
	text, _ := value.(string)
	return text
}

// checkTexts refuses text that not every database keeps as it is.
func checkTexts(resource string, r *record) error {
	for _, value := range r.content {
		if text, ok := value.(string); ok {
			if err := checkText(resource, text); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkText(resource string, texts ...string) error {
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return kms.Invalid(kms.Violation{Field: resource, Description: "a text is not valid UTF-8, or holds a zero byte"})
		}
	}
	return nil
}
