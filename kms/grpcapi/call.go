package grpcapi

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// call is what nearly every method does: decode the request M into R, ask the API as the
// principal of the connection, encode its answer V as the response W.
func call[M, R, V, W any](
	ctx context.Context, m M,
	decode func(M) (R, error),
	ask func(context.Context, kms.Principal, R) (V, error),
	encode func(V) W,
) (W, error) {
	var none W
	p, err := principal(ctx)
	if err != nil {
		return none, err
	}
	r, err := decode(m)
	if err != nil {
		return none, err
	}
	v, err := ask(ctx, p, r)
	if err != nil {
		return none, err
	}
	return encode(v), nil
}

// callEmpty is call for a request that says nothing.
func callEmpty[V, W any](ctx context.Context, ask func(context.Context, kms.Principal) (V, error), encode func(V) W,
) (W, error) {
	return call(ctx, struct{}{},
		func(struct{}) (struct{}, error) { return struct{}{}, nil },
		func(ctx context.Context, p kms.Principal, _ struct{}) (V, error) { return ask(ctx, p) },
		encode)
}

// callNamed is call for a change of a key version that takes its name and a reason.
func callNamed[M, V, W any](
	ctx context.Context, m M,
	decode func(M) (kms.VersionName, string, error),
	ask func(context.Context, kms.Principal, kms.VersionName, string) (V, error),
	encode func(V) W,
) (W, error) {
	type request struct {
		name   kms.VersionName
		reason string
	}
	return call(ctx, m,
		func(m M) (request, error) {
			name, reason, err := decode(m)
			return request{name, reason}, err
		},
		func(ctx context.Context, p kms.Principal, r request) (V, error) { return ask(ctx, p, r.name, r.reason) },
		encode)
}

// list asks for a page and encodes it. A page of many large resources may not fit into a
// message; then a smaller one is asked for, down to one resource, which always fits: a
// page may hold less than was asked for, and the token tells where it ended.
func list[V any, W proto.Message](page kms.Page, ask func(kms.Page) (V, error), encode func(V) W) (W, error) {
	for {
		v, err := ask(page)
		if err != nil {
			var none W
			return none, err
		}
		m := encode(v)
		if page.Size == 1 || proto.Size(m) <= wire.MaxMessageBytes {
			return m, nil
		}
		if page.Size == 0 {
			page.Size = kms.DefaultPageSize
		}
		page.Size = min(page.Size, kms.MaxPageSize) / 2
	}
}
