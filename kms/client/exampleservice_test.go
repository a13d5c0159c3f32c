package client_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/authz"
	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/kms/grpcapi"
	"github.com/keyholt/keyholt/kms/keystore"
)

// withService runs an example against a whole service in this process, on a token in
// memory, which has the keys "orders" and "backups" in the namespace "default", the signing
// key "documents" and the key "inbox", whose public key encrypts.
func withService(example func(ctx context.Context, p client.Profile) error) error {
	dir, err := os.MkdirTemp("", "kh")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	token := hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open()
	defer token.Close()
	store, err := keystore.OpenStore(ctx, keystore.Config{Driver: "sqlite", DSN: filepath.Join(dir, "keyholt.db")}, token)
	if err != nil {
		return err
	}
	defer store.Close()
	logger := slog.New(slog.DiscardHandler)
	service, err := kms.New(ctx, kms.Config{
		Token: token, Store: store, Auditor: noAudit{}, Logger: logger,
		Authorizer: authz.LocalAdministrators{UID: uint32(os.Getuid())},
	})
	if err != nil {
		return err
	}
	defer service.Close()

	server, err := grpcapi.New(grpcapi.Config{
		API: service, Credentials: authn.ServerCredentials(nil), Logger: logger, Version: "example",
	})
	if err != nil {
		return err
	}
	server.SetServing(true)
	profile := client.Profile{Address: "unix://" + filepath.Join(dir, "s")}
	socket, err := new(net.ListenConfig).Listen(ctx, "unix", filepath.Join(dir, "s"))
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, socket) }()
	err = createKeys(ctx, profile, map[string]kms.Algorithm{
		"orders": kms.AlgorithmAES256, "backups": kms.AlgorithmAES256,
		"documents": kms.AlgorithmECP256SHA256, "inbox": kms.AlgorithmRSA2048OAEPSHA256,
	})
	if err == nil {
		err = example(ctx, profile)
	}
	stop()
	return errors.Join(err, <-served)
}

func createKeys(ctx context.Context, p client.Profile, keys map[string]kms.Algorithm) error {
	c, err := client.Dial(ctx, p)
	if err != nil {
		return err
	}
	defer c.Close()
	for id, algorithm := range keys {
		key, err := kms.NewKeyName(p.DefaultNamespace(), id)
		if err != nil {
			return err
		}
		if _, err := c.API().CreateKey(ctx, kms.Principal{}, &kms.CreateKeyRequest{Name: key, Algorithm: algorithm}); err != nil {
			return err
		}
	}
	return nil
}
