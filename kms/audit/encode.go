package audit

import (
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/keyholt/keyholt/kms"
)

// timeLayout is RFC 3339 in UTC with microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// encoder makes the lines of records. It is for one goroutine, and is used again so
// that a record costs no allocations.
type encoder struct {
	line   []byte
	names  []string // of one encryption context, to sort them
	reason func(error) string
}

// encode makes the line of an event, without the id that the writer puts before it.
func (e *encoder) encode(event *kms.Event) {
	e.line = event.Time.UTC().AppendFormat(append(e.line[:0], `"time":"`...), timeLayout)
	e.line = append(e.line, '"')
	e.member("principal", event.Principal.Name)
	e.member("method", methodName(event.Principal.Method))
	e.optional("address", event.Principal.Address)
	e.member("action", string(event.Action))
	if !event.Namespace.IsZero() {
		e.name("namespace")
		e.line = append(e.line, '"')
		e.namespace(event.Namespace)
		e.line = append(e.line, '"')
	}
	e.optional("resource", event.Resource)
	if !event.ImportJob.IsZero() {
		e.member("import_job", event.ImportJob.String())
	}
	e.optional("reason", event.Reason)
	if len(event.Context) > 0 {
		e.context(event.Context)
	}
	if event.Revision != 0 {
		e.name("revision")
		e.line = strconv.AppendUint(e.line, uint64(event.Revision), 10)
		e.name("checked_ns")
		e.line = strconv.AppendInt(e.line, int64(event.CheckedAt), 10)
	}
	if event.Spread != nil {
		e.spread(event.Spread)
	}
	e.member("outcome", e.outcome(event.Err))
	if len(event.Items) > 0 {
		e.items(event.Items)
	}
	e.line = append(e.line, "}\n"...)
}

func (e *encoder) spread(spread *kms.Spread) {
	e.name("spread")
	e.line = strconv.AppendUint(append(e.line, `{"revision":`...), uint64(spread.Revision), 10)
	for _, list := range [...]struct {
		name  string
		names []string
	}{{"acknowledged", spread.Acknowledged}, {"expired", spread.Expired}} {
		if len(list.names) == 0 {
			continue
		}
		e.name(list.name)
		for i, name := range list.names {
			if i == 0 {
				e.line = append(e.line, '[')
			} else {
				e.line = append(e.line, ',')
			}
			e.line = appendString(e.line, name)
		}
		e.line = append(e.line, ']')
	}
	e.name("took_ms")
	e.line = strconv.AppendInt(e.line, spread.Took.Milliseconds(), 10)
	e.line = append(e.line, '}')
}

func (e *encoder) items(items []kms.ItemEvent) {
	e.name("items")
	for i := range items {
		item := &items[i]
		if i == 0 {
			e.line = append(e.line, '[')
		} else {
			e.line = append(e.line, ',')
		}
		e.line = strconv.AppendInt(append(e.line, `{"count":`...), int64(item.Count), 10)
		e.version("version", item.Version)
		e.version("target", item.Target)
		if item.Context != nil {
			e.context(item.Context)
		}
		e.member("outcome", e.outcome(item.Err))
		switch item.Verdict {
		case kms.VerdictValid:
			e.line = append(e.line, `,"valid":true`...)
		case kms.VerdictInvalid:
			e.line = append(e.line, `,"valid":false`...)
		}
		e.line = append(e.line, '}')
	}
	e.line = append(e.line, ']')
}

// name begins a member that is not the first of its object.
func (e *encoder) name(name string) {
	e.line = append(e.line, `,"`...)
	e.line = append(e.line, name...)
	e.line = append(e.line, `":`...)
}

func (e *encoder) member(name, value string) {
	e.name(name)
	e.line = appendString(e.line, value)
}

func (e *encoder) optional(name, value string) {
	if value != "" {
		e.member(name, value)
	}
}

// namespace appends a resource name, which needs no escapes.
func (e *encoder) namespace(n kms.NamespaceName) {
	e.line = append(append(e.line, "namespaces/"...), n.ID()...)
}

// version appends a member with the resource name of a version, unless that is zero.
func (e *encoder) version(name string, v kms.VersionName) {
	if v.IsZero() {
		return
	}
	e.name(name)
	e.line = append(e.line, '"')
	e.namespace(v.Key().Namespace())
	e.line = append(append(e.line, "/keys/"...), v.Key().ID()...)
	e.line = strconv.AppendUint(append(e.line, "/versions/"...), uint64(v.Number()), 10)
	e.line = append(e.line, '"')
}

// context appends an encryption context, its names in order of their bytes.
func (e *encoder) context(context map[string]string) {
	e.names = e.names[:0]
	for name := range context {
		e.names = append(e.names, name)
	}
	slices.Sort(e.names)
	e.name("context")
	e.line = append(e.line, '{')
	for i, name := range e.names {
		if i > 0 {
			e.line = append(e.line, ',')
		}
		e.line = append(appendString(e.line, name), ':')
		e.line = appendString(e.line, context[name])
	}
	e.line = append(e.line, '}')
	clear(e.names)
}

func (e *encoder) outcome(err error) string {
	if err == nil {
		return "OK"
	}
	return e.reason(err)
}

func methodName(m kms.Method) string {
	switch m {
	case kms.MethodUnix:
		return "unix"
	case kms.MethodTLS:
		return "tls"
	case kms.MethodSystem:
		return "system"
	default:
		return "none"
	}
}

// appendString appends s as a JSON string (RFC 8259 section 7). Control characters are
// escaped, so a record stays one line whatever a caller sends; bytes that are not UTF-8
// become U+FFFD.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, `\n`...)
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, `\ufffd`...)
			start = i + size
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
