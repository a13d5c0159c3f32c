package tinkaead

import (
	"fmt"
	"strings"

	"github.com/tink-crypto/tink-go/v2/core/registry"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// URIPrefix begins the URIs of keys, as Tink's keysets and key templates name them:
// keyholt-kms://namespaces/{namespace}/keys/{key}.
const URIPrefix = "keyholt-kms://"

// KMSClient resolves key URIs. It is a registry.KMSClient, for
// registry.RegisterKMSClient and for tools that take one.
type KMSClient struct {
	client *client.Client
	opts   []Option
}

var _ registry.KMSClient = (*KMSClient)(nil)

// NewKMSClient makes a KMSClient whose AEADs are made by [New] with the options.
func NewKMSClient(c *client.Client, opts ...Option) *KMSClient {
	return &KMSClient{client: c, opts: opts}
}

// KeyURI is the URI of a key.
func KeyURI(key kms.KeyName) string { return URIPrefix + key.String() }

// Supported reports whether the URI begins with [URIPrefix].
func (k *KMSClient) Supported(keyURI string) bool { return strings.HasPrefix(keyURI, URIPrefix) }

// GetAEAD returns the AEAD of a key. The error says what is wrong with the URI.
func (k *KMSClient) GetAEAD(keyURI string) (tink.AEAD, error) {
	name, ok := strings.CutPrefix(keyURI, URIPrefix)
	if !ok {
		return nil, fmt.Errorf("key URI %q does not begin with %s", keyURI, URIPrefix)
	}
	key, err := kms.ParseKeyName(name)
	if err != nil {
		return nil, fmt.Errorf("key URI: %w", err)
	}
	return New(k.client, key, k.opts...), nil
}
