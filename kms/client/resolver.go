package client

import (
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// listScheme is the scheme of gRPC's target for a list of addresses. It is known to the one
// connection only.
const listScheme = "keyholt-list"

// target is what gRPC is to connect to: the address itself, or, for a list of them, a
// target that resolves to all.
func (p *Profile) target() (target string, opts []grpc.DialOption) {
	each := p.Each()
	if len(each) == 1 {
		return each[0].Address, nil
	}
	state := resolver.State{Endpoints: make([]resolver.Endpoint, len(each))}
	for i := range each {
		state.Endpoints[i] = resolver.Endpoint{Addresses: []resolver.Address{each[i].resolved()}}
	}
	replicas := manual.NewBuilderWithScheme(listScheme)
	replicas.InitialState(state)
	return listScheme + ":///" + state.Endpoints[0].Addresses[0].ServerName, []grpc.DialOption{grpc.WithResolvers(replicas)}
}

// resolved is the one address for gRPC. Names are looked up for each connection. The
// certificate of each server must be for its own name, unless the profile says another.
func (p *Profile) resolved() resolver.Address {
	if p.IsUnix() {
		return resolver.Address{Addr: p.Address, ServerName: "localhost"}
	}
	if p.ServerName != "" { // which the address's own name would replace
		return resolver.Address{Addr: p.Address, ServerName: p.ServerName}
	}
	host, _, err := net.SplitHostPort(p.Address)
	if err != nil {
		host = p.Address // Validate has refused it
	}
	return resolver.Address{Addr: p.Address, ServerName: host}
}
