package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// problem is one thing that is wrong with a configuration file.
type problem struct {
	File string
	Line int    // 0: the file as a whole
	Key  string // such as hsm.module; empty: the file as a whole
	Text string
}

// String returns "file:line: key: text".
func (p problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		b.WriteString(":" + strconv.Itoa(p.Line))
	}
	if p.Key != "" {
		b.WriteString(": " + p.Key)
	}
	return b.String() + ": " + p.Text
}

// problems is the error of a configuration: everything that is wrong with it.
type problems []problem

func (p problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// Is makes problems an errConfiguration.
func (p problems) Is(target error) bool { return target == errConfiguration }

// yamlFile is a YAML file that is decoded strictly into a struct: a key that the struct
// does not have, a key given twice, a key without a value, and a value of another type
// are problems, each with its line. (The YAML package can be strict too; but it names
// neither the section of a key nor the file, and stops at the first document.)
type yamlFile struct {
	name     string
	lines    map[string]int // of each key that is there, by its full name
	problems problems
}

// decodeYAML decodes text into the struct that into points to. Fields that the file does
// not mention keep their values. The struct's fields are of type string, int, float64, bool,
// time.Duration, []string, or structs of such; their yaml tags are the keys.
func decodeYAML(name string, text []byte, into any) *yamlFile {
	f := &yamlFile{name: name, lines: make(map[string]int)}
	var root yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return f // nothing but comments
	} else if err != nil {
		f.add(0, "", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		return f
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		f.add(0, "", "more than one YAML document")
		return f
	}
	f.section(root.Content[0], "", reflect.ValueOf(into).Elem())
	return f
}

// problem adds a problem of a key, at its line or that of the section that it should be in.
func (f *yamlFile) problem(key, format string, args ...any) {
	at := key
	for f.lines[at] == 0 && strings.Contains(at, ".") {
		at = at[:strings.LastIndexByte(at, '.')]
	}
	f.add(f.lines[at], key, format, args...)
}

func (f *yamlFile) add(line int, key, format string, args ...any) {
	f.problems = append(f.problems, problem{f.name, line, key, fmt.Sprintf(format, args...)})
}

// section decodes a mapping into a struct.
func (f *yamlFile) section(node *yaml.Node, path string, into reflect.Value) {
	if node.Kind == yaml.AliasNode {
		f.add(node.Line, strings.TrimSuffix(path, "."), "%v", errAlias)
		return
	}
	if node.Kind != yaml.MappingNode {
		if node.Tag != "!!null" { // a section whose keys are all commented out
			f.add(node.Line, strings.TrimSuffix(path, "."), "want keys with values")
		}
		return
	}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := path + key.Value
		field, known := fieldOf(into, key.Value)
		switch {
		case !known:
			f.add(key.Line, name, "unknown key; the keys here are %s", strings.Join(keysOf(into.Type()), ", "))
			continue
		case f.lines[name] != 0:
			f.add(key.Line, name, "given twice, first in line %d", f.lines[name])
			continue
		}
		f.lines[name] = key.Line
		if field.Kind() == reflect.Struct {
			f.section(value, name+".", field)
		} else if err := decodeValue(value, field); err != nil {
			f.add(value.Line, name, "%v", err)
		}
	}
}

// errAlias: the file has an alias, which would hide what a key is set to.
var errAlias = errors.New("is an alias; write out what it stands for")

// decodeValue decodes a value that is no section.
func decodeValue(node *yaml.Node, into reflect.Value) error {
	if node.Kind == yaml.AliasNode {
		return errAlias
	}
	if into.Kind() == reflect.Slice {
		return decodeList(node, into)
	}
	if node.Kind != yaml.ScalarNode {
		return errors.New("want a single value")
	}
	if node.Tag == "!!null" {
		return errors.New("has no value; give it one or remove the key")
	}
	switch into.Interface().(type) {
	case time.Duration:
		d, err := time.ParseDuration(node.Value)
		if err != nil {
			return fmt.Errorf("%q is no duration; want one such as 30s or 1m30s", node.Value)
		}
		into.SetInt(int64(d))
	case int:
		n, err := strconv.Atoi(node.Value)
		if err != nil || node.Tag != "!!int" {
			return fmt.Errorf("%q is no whole number", node.Value)
		}
		into.SetInt(int64(n))
	case float64:
		x, err := strconv.ParseFloat(node.Value, 64)
		if err != nil || node.Tag != "!!float" && node.Tag != "!!int" {
			return fmt.Errorf("%q is no number", node.Value)
		}
		into.SetFloat(x)
	case bool:
		if node.Tag != "!!bool" {
			return fmt.Errorf("%q is neither true nor false", node.Value)
		}
		into.SetBool(strings.EqualFold(node.Value, "true"))
	default: // a string; the text as it stands, so that a serial number needs no quotes
		into.SetString(node.Value)
	}
	return nil
}

func decodeList(node *yaml.Node, into reflect.Value) error {
	if node.Tag == "!!null" { // a list whose items are all commented out
		return nil
	}
	if node.Kind != yaml.SequenceNode {
		return errors.New("want a list")
	}
	list := make([]string, len(node.Content))
	for i, item := range node.Content {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			return fmt.Errorf("item %d in line %d is no text", i+1, item.Line)
		}
		list[i] = item.Value
	}
	into.Set(reflect.ValueOf(list))
	return nil
}

// fieldOf finds the field of a struct by its key.
func fieldOf(of reflect.Value, key string) (reflect.Value, bool) {
	for i, name := range keysOf(of.Type()) {
		if name == key {
			return of.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// keysOf lists the keys of a struct, in the order of its fields.
func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}
