package wire

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/keyholt/keyholt/kms"
)

// maxFields is the most fields that a request may have, counting each item of a list
// and each entry of a map: twice as many as any request that is served.
const maxFields = 2 * kms.MaxItems

// Decode decodes a request into an empty message, unless [Check] will refuse it: one of
// more than [MaxMessageBytes], or of more fields than any request needs. An empty item
// takes two bytes on the wire and a hundred in memory, and requests are decoded before
// anybody asks who sent them, or how many are under way.
func Decode(encoded []byte, request proto.Message) error {
	if len(encoded) > MaxMessageBytes || tooManyFields(encoded) {
		request.ProtoReflect().SetUnknown(notDecoded())
		return nil
	}
	return proto.Unmarshal(encoded, request)
}

func tooManyFields(encoded []byte) bool {
	for n := 0; len(encoded) > 0; n++ {
		if n == maxFields {
			return true
		}
		_, _, size := protowire.ConsumeField(encoded)
		if size < 0 {
			return false // decoding says what is wrong
		}
		encoded = encoded[size:]
	}
	return false
}

// notDecoded marks a request that was not decoded: an unknown field with the highest
// number there is.
func notDecoded() []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.VarintType), 1)
}

// checkDecoded refuses a request that Decode did not decode.
func checkDecoded(request proto.Message) error {
	unknown := request.ProtoReflect().GetUnknown()
	if len(unknown) == 0 || !bytes.Equal(unknown, notDecoded()) {
		return nil
	}
	return &kms.Error{
		Sentinel: kms.ErrLimitExceeded,
		Message: fmt.Sprintf("the request has more than %d bytes, or more than %d items and fields; %d items are the limit",
			MaxMessageBytes, maxFields, kms.MaxItems),
	}
}
