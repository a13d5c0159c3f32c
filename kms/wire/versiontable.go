package wire

import (
	"github.com/keyholt/keyholt/kms"
)

// unknownVersion is the index of a version that is not known.
const unknownVersion = -1

// versionTable gathers the versions that a response names, each once, so that its
// results need an index only. Most batches have one version, or runs of the same.
type versionTable struct {
	names     []string
	last      kms.VersionName
	lastIndex int32
	indexes   map[kms.VersionName]int32
}

func (t *versionTable) index(v kms.VersionName) int32 {
	if v.IsZero() {
		return unknownVersion
	}
	if v == t.last {
		return t.lastIndex
	}
	if len(t.names) == 1 { // most responses name one version: no map for it
		t.indexes = map[kms.VersionName]int32{t.last: t.lastIndex}
	}
	i, ok := t.indexes[v]
	if !ok {
		i = int32(len(t.names))
		t.names = append(t.names, v.String())
		if t.indexes != nil {
			t.indexes[v] = i
		}
	}
	t.last, t.lastIndex = v, i
	return i
}

// parsedVersions is the table on the other side.
type parsedVersions []kms.VersionName

func (r *response) versions(names []string) parsedVersions {
	versions := make(parsedVersions, len(names))
	for i, name := range names {
		versions[i] = parsed(r, name, kms.ParseVersionName)
	}
	return versions
}

// version is the one at an index. Only a failed item may do without.
func (r *response) version(versions parsedVersions, index int32, failed bool) kms.VersionName {
	if index >= 0 && int(index) < len(versions) {
		return versions[index]
	}
	if !failed {
		r.refuse("the index %d is not in a list of %d key versions", index, len(versions))
	}
	return kms.VersionName{}
}
