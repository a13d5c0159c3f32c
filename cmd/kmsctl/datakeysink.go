package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// dataKeySink takes the results of data key calls: wrapped keys go to standard output,
// plaintext keys where the user said.
type dataKeySink struct {
	a          *app
	plaintext  *outFile // nil: not to a file
	show       bool     // plaintext goes to standard output
	unwrapping bool     // plaintext is the result, and wrapped keys are not

	stdout  *bufio.Writer
	records []dataKeyRecord // for structured output
	count   int
	failed  int
	last    error // of a failed item
}

// dataKeyRecord is a result in structured output. Field names are those of the wire
// contract.
type dataKeyRecord struct {
	KeyVersion     string         `json:"key_version" yaml:"key_version"`
	WrappedDataKey string         `json:"wrapped_data_key,omitempty" yaml:"wrapped_data_key,omitempty"`
	DataKey        string         `json:"data_key,omitempty" yaml:"data_key,omitempty"`
	Status         *dataKeyStatus `json:"status,omitempty" yaml:"status,omitempty"`
}

type dataKeyStatus struct {
	Reason  string `json:"reason" yaml:"reason"`
	Message string `json:"message" yaml:"message"`
}

// newDataKeySink opens the file for plaintext keys, if there is to be one.
func (a *app) newDataKeySink(ctx context.Context, plaintextOut string, replace, show bool) (*dataKeySink, error) {
	s := &dataKeySink{a: a, show: show, stdout: bufio.NewWriter(a.stdout)}
	if plaintextOut == "" {
		return s, nil
	}
	var err error
	s.plaintext, err = createOut(ctx, plaintextOut, replace, a.stdout)
	return s, err
}

// add takes the results of one call, or its error, which ends everything.
func (s *dataKeySink) add(results []kms.DataKeyResult, err error) error {
	for _, r := range results {
		if err == nil {
			err = s.one(&r)
		}
		r.DataKey.Wipe()
	}
	if err == nil {
		return nil
	}
	if more := errors.Join(s.stdout.Flush(), s.abort()); more != nil {
		err = errors.Join(err, more)
	}
	return err
}

func (s *dataKeySink) one(r *kms.DataKeyResult) error {
	s.count++
	if r.Err != nil {
		s.failed++
		s.last = r.Err
		s.a.sayf("kmsctl: data key %d: %v (%s)", s.count, r.Err, wire.Reason(r.Err))
	}
	if s.plaintext != nil {
		if _, err := fmt.Fprintln(s.plaintext, encode64(r.DataKey)); err != nil {
			return err
		}
	}
	if s.a.structured() {
		s.records = append(s.records, s.record(r))
		return nil
	}
	var err error
	switch {
	case s.unwrapping && s.plaintext != nil:
	case s.unwrapping:
		_, err = fmt.Fprintln(s.stdout, encode64(r.DataKey))
	case s.show:
		_, err = fmt.Fprintf(s.stdout, "%s\t%s\n", encode64(r.Wrapped), encode64(r.DataKey))
	default:
		_, err = fmt.Fprintln(s.stdout, encode64(r.Wrapped))
	}
	return err
}

func (s *dataKeySink) record(r *kms.DataKeyResult) dataKeyRecord {
	record := dataKeyRecord{WrappedDataKey: encode64(r.Wrapped)}
	if s.show {
		record.DataKey = encode64(r.DataKey)
	}
	for _, version := range []kms.VersionName{r.Version, r.Target} {
		if !version.IsZero() { // of a rewrap the new one counts
			record.KeyVersion = version.String()
		}
	}
	if r.Err != nil {
		record.Status = &dataKeyStatus{Reason: wire.Reason(r.Err), Message: r.Err.Error()}
	}
	return record
}

// finish writes what is left, and fails if an item has failed.
func (s *dataKeySink) finish() error {
	if s.a.structured() {
		if s.records == nil {
			s.records = []dataKeyRecord{} // [], not null
		}
		if err := s.a.encode(s.records); err != nil {
			return errors.Join(err, s.abort())
		}
	}
	if err := s.stdout.Flush(); err != nil {
		return errors.Join(err, s.abort())
	}
	if s.plaintext != nil {
		if err := s.plaintext.commit(); err != nil {
			return err
		}
	}
	if s.failed > 0 {
		return &itemsError{fmt.Sprintf("%d of %s failed", s.failed, kms.Counted(s.count, "data key")), s.last}
	}
	return nil
}

// itemsError is the failure of some items, each of which was reported already.
type itemsError struct {
	text string
	last error
}

func (e *itemsError) Error() string { return e.text }

func (s *dataKeySink) abort() error {
	if s.plaintext == nil {
		return nil
	}
	return s.plaintext.abort()
}

func encode64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// maxLine is longer than any wrapped key in base64.
const maxLine = 4096

// eachBatch reads wrapped keys from standard input and gives them to call, as many at
// once as the service takes.
func (a *app) eachBatch(ctx context.Context, sink *dataKeySink,
	call func([]kms.DataKeyItem) ([]kms.DataKeyResult, error),
) error {
	input, stop := interruptible(ctx, a.stdin)
	defer stop()
	lines := bufio.NewScanner(input)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	number := 0
	items := make([]kms.DataKeyItem, 0, kms.MaxItems)
	flush := func() error {
		if len(items) == 0 {
			return nil
		}
		results, err := call(items)
		items = items[:0]
		return sink.add(results, err)
	}
	for lines.Scan() {
		number++
		wrapped, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(lines.Bytes())))
		if err != nil {
			return sink.add(nil, fmt.Errorf("line %d of standard input is not base64: %v", number, err))
		}
		items = append(items, kms.DataKeyItem{Wrapped: wrapped})
		if len(items) == kms.MaxItems {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("line %d of standard input is longer than any wrapped key", number+1)
		}
		return sink.add(nil, err)
	}
	if err := flush(); err != nil {
		return err
	}
	return sink.finish()
}
