package wire

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// MaxMessageBytes is the published limit of a request, and of a response.
const MaxMessageBytes = 4<<20 - 64<<10

// Check refuses a request that has too many items, or, anywhere inside, a field that
// this service does not know: such a field is one that a newer client relies on, and
// ignoring it would be doing something else than was asked.
func Check(request proto.Message) error {
	if err := checkDecoded(request); err != nil {
		return err
	}
	var found []kms.Violation
	switch m := request.(type) {
	case *kmsv1.BatchEncryptRequest:
		return checkBatch(m, m.GetItems())
	case *kmsv1.BatchDecryptRequest:
		return checkBatch(m, m.GetItems())
	case *kmsv1.WrapDataKeysRequest:
		return checkBatch(m, m.GetItems())
	case *kmsv1.UnwrapDataKeysRequest:
		return checkBatch(m, m.GetItems())
	case *kmsv1.RewrapDataKeysRequest:
		return checkBatch(m, m.GetItems())
	case *kmsv1.BatchSignRequest:
		return checkFlatBatch(m, m.GetItems())
	case *kmsv1.BatchGenerateMacRequest:
		return checkFlatBatch(m, m.GetItems())
	case *kmsv1.BatchVerifyMacRequest:
		return checkFlatBatch(m, m.GetItems())
	default:
		found = unknownFields(found, "", request.ProtoReflect())
	}
	if len(found) > 0 {
		return kms.Invalid(found...)
	}
	return nil
}

// item is an item of a batch: the only message of it that may hold another is the
// binding. Asking the generated types directly is what keeps this cheap.
type item interface {
	proto.Message
	GetBinding() *kmsv1.Binding
}

func checkBatch[I item](request proto.Message, items []I) error {
	return checkItems(request, items, func(found []kms.Violation, i int, item I) []kms.Violation {
		if b := item.GetBinding(); b != nil && len(b.ProtoReflect().GetUnknown()) > 0 {
			found = unknownField(found, fmt.Sprintf("items[%d].binding.", i), b.ProtoReflect())
		}
		return found
	})
}

// checkFlatBatch is checkBatch for items that hold no messages.
func checkFlatBatch[I proto.Message](request proto.Message, items []I) error {
	return checkItems(request, items, func(found []kms.Violation, _ int, _ I) []kms.Violation { return found })
}

func checkItems[I proto.Message](request proto.Message, items []I,
	inside func(found []kms.Violation, i int, item I) []kms.Violation,
) error {
	if len(items) > kms.MaxItems {
		return tooManyItems(len(items))
	}
	found := unknownField(nil, "", request.ProtoReflect())
	for i, item := range items {
		if m := item.ProtoReflect(); len(m.GetUnknown()) > 0 {
			found = unknownField(found, fmt.Sprintf("items[%d].", i), m)
		}
		found = inside(found, i, item)
	}
	if len(found) > 0 {
		return kms.Invalid(found...)
	}
	return nil
}

// unknownFields looks into a message and all messages inside it.
func unknownFields(found []kms.Violation, path string, m protoreflect.Message) []kms.Violation {
	found = unknownField(found, path, m)
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.Message() == nil || field.IsMap() && field.MapValue().Message() == nil || !m.Has(field) {
			continue
		}
		inside := path + string(field.Name())
		switch value := m.Get(field); {
		case field.IsMap():
			value.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
				found = unknownFields(found, fmt.Sprintf("%s[%q].", inside, key.String()), value.Message())
				return true
			})
		case field.IsList():
			for j := range value.List().Len() {
				found = unknownFields(found, fmt.Sprintf("%s[%d].", inside, j), value.List().Get(j).Message())
			}
		default:
			found = unknownFields(found, inside+".", value.Message())
		}
	}
	return found
}

// unknownField tells the first unknown field of one message.
func unknownField(found []kms.Violation, path string, m protoreflect.Message) []kms.Violation {
	unknown := m.GetUnknown()
	if len(unknown) == 0 {
		return found
	}
	number, _, _ := protowire.ConsumeTag(unknown)
	return append(found, kms.Violation{
		Field:       path + strconv.Itoa(int(number)),
		Description: fmt.Sprintf("the service does not know a field %d of %s", number, m.Descriptor().FullName()),
	})
}
