package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// LoadProfile reads a profile file. Relative file names in it are relative to its
// directory. A key that [Profile] does not have, one given twice and one without a value
// are errors of the form "file:line: key: what is wrong". It does not check that the
// profile is complete, see [Profile.Validate]: what is missing may come from elsewhere.
func LoadProfile(path string) (Profile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Profile{}, err
	}
	p, err := parseProfile(path, text)
	if err != nil {
		return Profile{}, err
	}
	dir := filepath.Dir(path)
	for _, file := range []*string{&p.CAFile, &p.CertFile, &p.KeyFile} {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(dir, *file)
		}
	}
	return p, nil
}

// profileError is what is wrong with a profile file; it is an ErrProfile.
type profileError struct {
	file string
	line int    // 0: the file as a whole
	key  string // empty: the file as a whole
	text string
}

func (e *profileError) Error() string {
	var b strings.Builder
	b.WriteString(e.file)
	if e.line > 0 {
		b.WriteString(":" + strconv.Itoa(e.line))
	}
	if e.key != "" {
		b.WriteString(": " + e.key)
	}
	return b.String() + ": " + e.text
}

func (e *profileError) Is(target error) bool { return target == ErrProfile }

// parseProfile decodes the text of the file strictly. The YAML package can be strict as
// well, but its errors name Go types.
func parseProfile(file string, text []byte) (Profile, error) {
	var (
		p    Profile
		root yaml.Node
	)
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return p, nil // nothing but comments
	} else if err != nil {
		return Profile{}, &profileError{file: file, text: strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Profile{}, &profileError{file: file, text: "more than one YAML document"}
	}
	mapping := root.Content[0]
	if mapping.Kind != yaml.MappingNode {
		return Profile{}, &profileError{file: file, line: mapping.Line, text: "want keys with values"}
	}
	fields := profileFields(&p)
	seen := make(map[string]int)
	for i := 0; i < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		text, err := scalar(value)
		switch field := fields[key.Value]; {
		case field == nil:
			err = fmt.Errorf("unknown key; the keys are %s", strings.Join(profileKeys(), ", "))
		case seen[key.Value] != 0:
			err = fmt.Errorf("given twice, first in line %d", seen[key.Value])
		case err == nil:
			*field = text
		}
		if err != nil {
			return Profile{}, &profileError{file: file, line: key.Line, key: key.Value, text: err.Error()}
		}
		seen[key.Value] = key.Line
	}
	return p, nil
}

// scalar is the text of a value as it stands.
func scalar(node *yaml.Node) (string, error) {
	switch {
	case node.Kind != yaml.ScalarNode:
		return "", errors.New("want a single value")
	case node.Tag == "!!null":
		return "", errors.New("has no value; give it one or remove the key")
	}
	return node.Value, nil
}

// profileKeys lists the keys of a profile in the order of its fields.
func profileKeys() []string {
	t := reflect.TypeFor[Profile]()
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i], _, _ = strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
	}
	return keys
}

// profileFields are the fields by their keys: all are strings.
func profileFields(p *Profile) map[string]*string {
	fields := make(map[string]*string)
	v := reflect.ValueOf(p).Elem()
	for i, key := range profileKeys() {
		if field, ok := v.Field(i).Addr().Interface().(*string); ok {
			fields[key] = field
		}
	}
	return fields
}
