package kms

import (
	"fmt"
	"strings"
)

// ImportJobName is the parsed name of an import job. The zero value names nothing.
type ImportJobName struct {
	namespace NamespaceName
	id        string
}

// NewImportJobName makes the name of an import job from its last segment, which must match
// [a-z0-9][a-z0-9._-]{0,62}.
func NewImportJobName(namespace NamespaceName, id string) (ImportJobName, error) {
	if namespace.IsZero() {
		return ImportJobName{}, fmt.Errorf("the name of an import job needs a namespace")
	}
	if err := checkID(id); err != nil {
		return ImportJobName{}, err
	}
	return ImportJobName{namespace, id}, nil
}

// ParseImportJobName parses namespaces/{namespace}/importJobs/{job}.
func ParseImportJobName(s string) (ImportJobName, error) {
	segments := strings.Split(s, "/")
	if len(segments) != 4 || segments[0] != "namespaces" || segments[2] != "importJobs" {
		return ImportJobName{}, malformedName(s, "namespaces/{namespace}/importJobs/{job}")
	}
	namespace, err := NewNamespaceName(segments[1])
	if err != nil {
		return ImportJobName{}, err
	}
	return NewImportJobName(namespace, segments[3])
}

// Namespace is the name of the namespace that the job belongs to.
func (j ImportJobName) Namespace() NamespaceName { return j.namespace }

// ID is the last segment of the name.
func (j ImportJobName) ID() string { return j.id }

// IsZero reports whether j names nothing.
func (j ImportJobName) IsZero() bool { return j.id == "" }

// String is the resource name.
func (j ImportJobName) String() string { return j.namespace.String() + "/importJobs/" + j.id }
