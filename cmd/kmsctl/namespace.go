package main

import (
	"context"

	"github.com/spf13/cobra"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newNamespace(a *app) *cobra.Command {
	create := &cobra.Command{
		Use:   "create NAMESPACE",
		Short: "Create a namespace",
		Args:  between(1, 1),
		RunE: a.connected(func(ctx context.Context, conn *connection, args []string) error {
			name, err := parseNamespace(args[0])
			if err != nil {
				return err
			}
			namespace, err := conn.Keys().CreateNamespace(ctx, &kmsv1.CreateNamespaceRequest{NamespaceId: name.ID()})
			if err != nil {
				return err
			}
			return showOne(a, namespace, namespaceRow)
		}),
	}
	get := &cobra.Command{
		Use:   "get NAMESPACE",
		Short: "Show a namespace",
		Args:  between(1, 1),
		RunE: a.connected(func(ctx context.Context, conn *connection, args []string) error {
			name, err := parseNamespace(args[0])
			if err != nil {
				return err
			}
			namespace, err := conn.Keys().GetNamespace(ctx, &kmsv1.GetNamespaceRequest{Name: name.String()})
			if err != nil {
				return err
			}
			return showOne(a, namespace, namespaceRow)
		}),
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "List the namespaces",
		Args:  between(0, 0),
		RunE: a.connected(func(ctx context.Context, conn *connection, _ []string) error {
			namespaces, err := pages(func(token string) ([]*kmsv1.Namespace, string, error) {
				r, err := conn.Keys().ListNamespaces(ctx, &kmsv1.ListNamespacesRequest{
					PageSize: pageSize, PageToken: token,
				})
				return r.GetNamespaces(), r.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			return showList(a, namespaces, namespaceRow)
		}),
	}
	return group("namespace", "Manage namespaces", create, get, list)
}
