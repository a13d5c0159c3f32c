package wire

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// TestDecodeIsBounded: a request that is refused for its size anyway is not made into
// millions of messages first, and what is served is decoded as ever.
func TestDecodeIsBounded(t *testing.T) {
	items := func(n int) []byte { return bytes.Repeat([]byte{3<<3 | 2, 0}, n) } // empty items
	if one := new(kmsv1.UnwrapDataKeysRequest); proto.Unmarshal(items(1), one) != nil || len(one.GetItems()) != 1 {
		t.Fatalf("the bytes of an item are not those of an item: %v", one)
	}
	for _, test := range []struct {
		encoded []byte
		decoded int // items
		refused bool
	}{
		{items(kms.MaxItems), kms.MaxItems, false},
		{items(kms.MaxItems + 1), kms.MaxItems + 1, true}, // as a batch, not for its fields
		{items(maxFields), maxFields, true},
		{items(maxFields + 1), 0, true},
		{items(MaxMessageBytes / 2), 0, true},
		{append([]byte{3<<3 | 2, 0}, make([]byte, MaxMessageBytes)...), 0, true},
	} {
		request := new(kmsv1.UnwrapDataKeysRequest)
		if err := Decode(test.encoded, request); err != nil {
			t.Fatal(err)
		}
		if n := len(request.GetItems()); n != test.decoded {
			t.Errorf("%d bytes: %d items decoded, want %d", len(test.encoded), n, test.decoded)
		}
		if err := Check(request); errors.Is(err, kms.ErrLimitExceeded) != test.refused {
			t.Errorf("%d bytes: Check: %v, want refused: %v", len(test.encoded), err, test.refused)
		}
	}
	for _, request := range requests(t) {
		if err := Decode(items(maxFields+1), request); err != nil || !errors.Is(Check(request), kms.ErrLimitExceeded) {
			t.Errorf("%T: %v, Check: %v", request, err, Check(request))
		}
	}
	if err := Decode([]byte{3<<3 | 2, 200}, new(kmsv1.UnwrapDataKeysRequest)); err == nil {
		t.Error("half an item was decoded")
	}
}
