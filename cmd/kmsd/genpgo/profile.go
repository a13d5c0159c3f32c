package main

import "google.golang.org/protobuf/encoding/protowire"

// profile is a CPU profile in which the edges take the same time, and nothing else takes any. It is a message Profile of
// pprof's profile.proto (github.com/google/pprof), of which the compiler needs: the names of functions and their first
// lines, and samples of a caller at a line and its callee. Uncompressed, so that the same hints always make the same
// bytes.
func profile(edges []edge) []byte {
	p := builder{strings: []string{""}} // string 0 must be empty
	cpu := p.valueType("cpu", "nanoseconds")
	p.bytes += field(1, p.valueType("samples", "count")) // Profile.sample_type
	p.bytes += field(1, cpu)
	for _, e := range edges {
		callee := p.location(e.callee, 1, 1)
		caller := p.location(e.caller, e.start, e.line)
		sample := varint(1, callee) + varint(1, caller) // Sample.location_id, the leaf first
		sample += varint(2, 1) + varint(2, 1)           // Sample.value, one for each sample_type
		p.bytes += field(2, sample)                     // Profile.sample
	}
	for _, s := range p.strings {
		p.bytes += field(6, s) // Profile.string_table
	}
	p.bytes += field(11, cpu)  // Profile.period_type
	p.bytes += varint(12, 1e7) // Profile.period
	return []byte(p.bytes)
}

// builder is a profile that is being made.
type builder struct {
	bytes   string
	strings []string
	last    int // the last identifier of a location and its function
}

// text adds a string to the table.
func (p *builder) text(s string) int {
	p.strings = append(p.strings, s)
	return len(p.strings) - 1
}

// valueType is a ValueType: type and unit.
func (p *builder) valueType(kind, unit string) string {
	return varint(1, p.text(kind)) + varint(2, p.text(unit))
}

// location adds a place in a function, and the function.
func (p *builder) location(function string, start, line int) int {
	p.last++
	name := p.text(function)
	p.bytes += field(5, varint(1, p.last)+varint(2, name)+varint(3, name)+varint(5, start)) // Function
	p.bytes += field(4, varint(1, p.last)+field(4, varint(1, p.last)+varint(2, line)))      // Location, with its Line
	return p.last
}

func varint(number protowire.Number, v int) string {
	return string(protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), uint64(v)))
}

func field(number protowire.Number, s string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), s))
}
