package wire

import (
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeGenerateDataKeysRequest makes the message.
func EncodeGenerateDataKeysRequest(r *kms.GenerateDataKeysRequest) *kmsv1.GenerateDataKeysRequest {
	return &kmsv1.GenerateDataKeysRequest{
		Key:                         encodeName(r.Key),
		Count:                       encodeInt(r.Count),
		Size:                        encodeInt(r.Size),
		WithoutPlaintext:            r.WithoutPlaintext,
		EncryptionContext:           r.Binding.Context,
		AdditionalAuthenticatedData: r.Binding.AAD,
	}
}

// DecodeGenerateDataKeysRequest reads the request.
func DecodeGenerateDataKeysRequest(m *kmsv1.GenerateDataKeysRequest) (*kms.GenerateDataKeysRequest, error) {
	d := decoder{}
	r := &kms.GenerateDataKeysRequest{
		Key:              d.key("key", m.GetKey()),
		Count:            int(m.GetCount()),
		Size:             int(m.GetSize()),
		WithoutPlaintext: m.GetWithoutPlaintext(),
		Binding:          requestBinding(m),
	}
	return r, d.err()
}

// EncodeWrapDataKeysRequest makes the message. An item's Invalid is not on the wire.
func EncodeWrapDataKeysRequest(r *kms.WrapDataKeysRequest) *kmsv1.WrapDataKeysRequest {
	items := slab[kmsv1.WrapDataKeysRequest_Item](len(r.Items))
	e := itemEncoder{total: len(items)}
	for i, m := range items {
		item := &r.Items[i]
		m.DataKey, m.Key, m.Binding = item.DataKey, e.name(item.Key), e.binding(i, item.Binding)
	}
	return &kmsv1.WrapDataKeysRequest{
		Parent:                      encodeName(r.Parent),
		Key:                         encodeName(r.Key),
		Items:                       items,
		EncryptionContext:           r.Binding.Context,
		AdditionalAuthenticatedData: r.Binding.AAD,
	}
}

// DecodeWrapDataKeysRequest reads the request.
func DecodeWrapDataKeysRequest(m *kmsv1.WrapDataKeysRequest) (*kms.WrapDataKeysRequest, error) {
	d := decoder{}
	if err := d.checkCount(len(m.GetItems())); err != nil {
		return nil, err
	}
	r := &kms.WrapDataKeysRequest{
		Parent:  d.namespace("parent", m.GetParent()),
		Key:     d.optionalKey("key", m.GetKey()),
		Items:   make([]kms.DataKeyItem, len(m.GetItems())),
		Binding: requestBinding(m),
	}
	items := itemDecoder{total: len(r.Items)}
	for i, item := range m.GetItems() {
		r.Items[i].DataKey = item.GetDataKey()
		items.decode(dataKeyFields(&r.Items[i]), i, item.GetKey(), item.GetBinding())
	}
	return r, d.err()
}

// EncodeUnwrapDataKeysRequest makes the message. An item's Invalid is not on the wire.
func EncodeUnwrapDataKeysRequest(r *kms.UnwrapDataKeysRequest) *kmsv1.UnwrapDataKeysRequest {
	items := slab[kmsv1.UnwrapDataKeysRequest_Item](len(r.Items))
	e := itemEncoder{total: len(items)}
	for i, m := range items {
		item := &r.Items[i]
		m.WrappedDataKey, m.Key, m.Binding = item.Wrapped, e.name(item.Key), e.binding(i, item.Binding)
	}
	return &kmsv1.UnwrapDataKeysRequest{
		Parent:                      encodeName(r.Parent),
		Key:                         encodeName(r.Key),
		Items:                       items,
		EncryptionContext:           r.Binding.Context,
		AdditionalAuthenticatedData: r.Binding.AAD,
		RewrapToPrimary:             r.RewrapToPrimary,
	}
}

// DecodeUnwrapDataKeysRequest reads the request.
func DecodeUnwrapDataKeysRequest(m *kmsv1.UnwrapDataKeysRequest) (*kms.UnwrapDataKeysRequest, error) {
	d := decoder{}
	if err := d.checkCount(len(m.GetItems())); err != nil {
		return nil, err
	}
	r := &kms.UnwrapDataKeysRequest{
		Parent:          d.namespace("parent", m.GetParent()),
		Key:             d.optionalKey("key", m.GetKey()),
		Items:           make([]kms.DataKeyItem, len(m.GetItems())),
		Binding:         requestBinding(m),
		RewrapToPrimary: m.GetRewrapToPrimary(),
	}
	items := itemDecoder{total: len(r.Items)}
	for i, item := range m.GetItems() {
		r.Items[i].Wrapped = item.GetWrappedDataKey()
		items.decode(dataKeyFields(&r.Items[i]), i, item.GetKey(), item.GetBinding())
	}
	return r, d.err()
}

// EncodeRewrapDataKeysRequest makes the message. An item's Invalid is not on the wire.
func EncodeRewrapDataKeysRequest(r *kms.RewrapDataKeysRequest) *kmsv1.RewrapDataKeysRequest {
	items := slab[kmsv1.RewrapDataKeysRequest_Item](len(r.Items))
	e := itemEncoder{total: len(items)}
	for i, m := range items {
		item := &r.Items[i]
		m.WrappedDataKey, m.Key, m.Binding = item.Wrapped, e.name(item.Key), e.binding(i, item.Binding)
	}
	return &kmsv1.RewrapDataKeysRequest{
		Parent:                      encodeName(r.Parent),
		Key:                         encodeName(r.Key),
		Items:                       items,
		EncryptionContext:           r.Binding.Context,
		AdditionalAuthenticatedData: r.Binding.AAD,
	}
}

// DecodeRewrapDataKeysRequest reads the request.
func DecodeRewrapDataKeysRequest(m *kmsv1.RewrapDataKeysRequest) (*kms.RewrapDataKeysRequest, error) {
	d := decoder{}
	if err := d.checkCount(len(m.GetItems())); err != nil {
		return nil, err
	}
	r := &kms.RewrapDataKeysRequest{
		Parent:  d.namespace("parent", m.GetParent()),
		Key:     d.optionalKey("key", m.GetKey()),
		Items:   make([]kms.DataKeyItem, len(m.GetItems())),
		Binding: requestBinding(m),
	}
	items := itemDecoder{total: len(r.Items)}
	for i, item := range m.GetItems() {
		r.Items[i].Wrapped = item.GetWrappedDataKey()
		items.decode(dataKeyFields(&r.Items[i]), i, item.GetKey(), item.GetBinding())
	}
	return r, d.err()
}

func dataKeyFields(item *kms.DataKeyItem) itemFields {
	return itemFields{&item.Key, &item.Binding, &item.Invalid}
}
