package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newKey(a *app) *cobra.Command {
	return group("key", "Manage keys",
		newKeyCreate(a),
		newKeyGet(a),
		newKeyList(a),
		newKeyUpdate(a),
		newKeyVersions(a),
		newKeyDescribe(a),
		newKeyImport(a),
		newSetPrimary(a),
	)
}

func newKeyCreate(a *app) *cobra.Command {
	var f keyFlags
	cmd := &cobra.Command{
		Use:   "create KEY",
		Short: "Create a key and its first version",
		Example: `  kmsctl key create orders
  kmsctl key create shop/cards --profile STRICT --rotation-period 720h --label team=payments
  kmsctl key create releases --algorithm EC_SIGN_P384_SHA384
  kmsctl key create webhooks --purpose MAC`,
		Args: between(1, 1),
	}
	f.add(cmd)
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		name, err := parseKey(args[0], conn.namespace)
		if err != nil {
			return err
		}
		key, err := f.message()
		if err != nil {
			return err
		}
		created, err := conn.Keys().CreateKey(ctx, &kmsv1.CreateKeyRequest{
			Parent: name.Namespace().String(), KeyId: name.ID(), Key: key,
		})
		if err != nil {
			return err
		}
		return showOne(a, created, keyRow)
	})
	return cmd
}

// enumValue finds an enum's value by the part of its name after the prefix.
func enumValue(flag, value, prefix string, names map[string]int32) (int32, error) {
	if n := names[prefix+strings.ToUpper(value)]; n != 0 { // 0 is UNSPECIFIED
		return n, nil
	}
	var known []string
	for n := int32(1); int(n) < len(names); n++ {
		for name, number := range names {
			if number == n {
				known = append(known, strings.TrimPrefix(name, prefix))
			}
		}
	}
	return 0, usagef("--%s %q: want %s", flag, value, either(known))
}

// names are the texts of values.
func names[T fmt.Stringer](values []T) []string {
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = value.String()
	}
	return texts
}

// rotationPeriodHelp is the help of --rotation-period.
const rotationPeriodHelp = "rotate so often, such as 720h: at least 1s, better a day or more; 0: by hand only"

func rotationPeriod(d time.Duration) (*durationpb.Duration, error) {
	switch {
	case d < 0:
		return nil, usagef("--rotation-period %v: want a positive duration, or 0 for none", d)
	case d == 0:
		return nil, nil //nolint:nilnil // an unset field: no period
	default:
		return durationpb.New(d), nil
	}
}

func newKeyGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "get KEY",
		Short:             "Show a key",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
		RunE: a.connected(func(ctx context.Context, conn *connection, args []string) error {
			name, err := parseKey(args[0], conn.namespace)
			if err != nil {
				return err
			}
			key, err := conn.Keys().GetKey(ctx, &kmsv1.GetKeyRequest{Name: name.String()})
			if err != nil {
				return err
			}
			return showOne(a, key, keyRow)
		}),
	}
}

func newKeyList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys of the namespace",
		Args:  between(0, 0),
		RunE: a.connected(func(ctx context.Context, conn *connection, _ []string) error {
			keys, err := listKeys(ctx, conn)
			if err != nil {
				return err
			}
			return showList(a, keys, keyRow)
		}),
	}
}

func listKeys(ctx context.Context, conn *connection) ([]*kmsv1.Key, error) {
	return pages(func(token string) ([]*kmsv1.Key, string, error) {
		r, err := conn.Keys().ListKeys(ctx, &kmsv1.ListKeysRequest{
			Parent: conn.namespace.String(), PageSize: pageSize, PageToken: token,
		})
		return r.GetKeys(), r.GetNextPageToken(), err
	})
}

func newKeyUpdate(a *app) *cobra.Command {
	var (
		set, remove []string
		period      time.Duration
	)
	cmd := &cobra.Command{
		Use:   "update KEY",
		Short: "Change the labels or the rotation period of a key",
		Example: `  kmsctl key update orders --label team=payments --remove-label draft
  kmsctl key update orders --rotation-period 0`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&set, "label", nil, "set this label, as KEY=VALUE; the others stay; may be repeated")
	flags.StringArrayVar(&remove, "remove-label", nil, "remove the label KEY; may be repeated")
	flags.DurationVar(&period, "rotation-period", 0, rotationPeriodHelp)
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		name, err := parseKey(args[0], conn.namespace)
		if err != nil {
			return err
		}
		labels, err := parsePairs("label", set)
		if err != nil {
			return err
		}
		request := &kmsv1.UpdateKeyRequest{
			Key: &kmsv1.Key{Name: name.String()}, UpdateMask: &fieldmaskpb.FieldMask{},
		}
		if flags.Changed("rotation-period") {
			if request.Key.RotationPeriod, err = rotationPeriod(period); err != nil {
				return err
			}
			request.UpdateMask.Paths = append(request.UpdateMask.Paths, "rotation_period")
		}
		if len(labels)+len(remove) > 0 {
			request.UpdateMask.Paths = append(request.UpdateMask.Paths, "labels")
		}
		if len(request.GetUpdateMask().GetPaths()) == 0 {
			return usagef("nothing to change: give --label, --remove-label or --rotation-period")
		}
		updated, err := updateKey(ctx, conn, request, labels, remove)
		if err != nil {
			return err
		}
		return showOne(a, updated, keyRow)
	})
	return cmd
}

// updateKey changes single labels on top of those that the key has; the etag makes sure
// that nobody else's change in between is undone.
func updateKey(ctx context.Context, conn *connection, request *kmsv1.UpdateKeyRequest,
	set map[string]string, remove []string,
) (*kmsv1.Key, error) {
	if len(set)+len(remove) > 0 {
		current, err := conn.Keys().GetKey(ctx, &kmsv1.GetKeyRequest{Name: request.GetKey().GetName()})
		if err != nil {
			return nil, err
		}
		labels := make(map[string]string, len(current.GetLabels())+len(set))
		for k, v := range current.GetLabels() {
			labels[k] = v
		}
		for _, k := range remove {
			if _, ok := labels[k]; !ok {
				return nil, usagef("--remove-label: the key has no label %q", k)
			}
			delete(labels, k)
		}
		for k, v := range set {
			labels[k] = v
		}
		request.Key.Labels, request.Key.Etag = labels, current.GetEtag()
	}
	return conn.Keys().UpdateKey(ctx, request)
}

func newKeyVersions(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "versions KEY",
		Short:             "List the versions of a key",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
		RunE: a.connected(func(ctx context.Context, conn *connection, args []string) error {
			name, err := parseKey(args[0], conn.namespace)
			if err != nil {
				return err
			}
			versions, err := pages(func(token string) ([]*kmsv1.KeyVersion, string, error) {
				r, err := conn.Keys().ListKeyVersions(ctx, &kmsv1.ListKeyVersionsRequest{
					Parent: name.String(), PageSize: pageSize, PageToken: token,
				})
				return r.GetKeyVersions(), r.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			return showList(a, versions, versionRow)
		}),
	}
}
