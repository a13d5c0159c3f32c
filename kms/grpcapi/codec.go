package grpcapi

import (
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/keyholt/keyholt/kms/wire"
)

// wipingCodec is the protobuf codec, except that it overwrites the secrets of a message
// when they have been encoded, and uses buffers that are overwritten when they have
// been sent or decoded.
//
// It is an effort, not a promise: messages below 1 KiB are not pooled, and what the
// transport and its cipher buffer on their way is theirs.
type wipingCodec struct{ pool mem.BufferPool }

// Name is that of the codec it stands for.
func (*wipingCodec) Name() string { return "proto" }

// Marshal encodes a message, then wipes it.
func (c *wipingCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a proto.Message", v)
	}
	defer wire.Wipe(m)
	size := proto.Size(m)
	options := proto.MarshalOptions{UseCachedSize: true} // of the line above
	if mem.IsBelowBufferPoolingThreshold(size) {
		encoded, err := options.Marshal(m)
		if err != nil {
			return nil, err
		}
		return mem.BufferSlice{mem.SliceBuffer(encoded)}, nil
	}
	buffer := c.pool.Get(size)
	if _, err := options.MarshalAppend((*buffer)[:0], m); err != nil {
		c.pool.Put(buffer)
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(buffer, c.pool)}, nil
}

// Unmarshal decodes a request, within the bounds of [wire.Decode].
func (c *wipingCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is not a proto.Message", v)
	}
	encoded := data.MaterializeToBuffer(c.pool)
	defer encoded.Free()
	return wire.Decode(encoded.ReadOnlyData(), m)
}

// wipingPool overwrites buffers when they come back.
type wipingPool struct{ mem.BufferPool }

// newWipingPool keeps buffers of every power of two up to the largest message. gRPC's own pool has none between 32 KiB
// and 1 MiB, and clears the whole of a buffer for each use: a batch of 1,024 would clear two megabytes, and with them
// what a core has in its cache.
func newWipingPool() wipingPool {
	const smallest, largest = 256, 4 << 20 // bytes
	var sizes []int
	for size := smallest; size <= largest; size *= 2 {
		sizes = append(sizes, size)
	}
	return wipingPool{mem.NewTieredBufferPool(sizes...)}
}

// Put takes a buffer back. Its length is what was asked of Get, and nothing was written
// beyond.
func (p wipingPool) Put(buffer *[]byte) {
	clear(*buffer)
	p.BufferPool.Put(buffer)
}
