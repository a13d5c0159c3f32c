package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// completionTimeout is how long a shell waits for names.
const completionTimeout = 2 * time.Second

// completeKey offers the names of the namespace's keys.
func (a *app) completeKey(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.keyNames(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
}

// completeVersion offers keys, then, after the slash, the numbers of versions.
func (a *app) completeVersion(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	key, _, found := strings.Cut(typed, "/")
	if !found {
		names := a.keyNames(cmd.Context())
		for i := range names {
			names[i] += "/"
		}
		return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	return a.versionNames(cmd.Context(), key), cobra.ShellCompDirectiveNoFileComp
}

// completeValues offers the values of a flag.
func completeValues(cmd *cobra.Command, flag string, values []string) {
	// The error is of a flag that is not there, which the tests would notice: it completes nothing.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// keyNames is best effort: a shell has no place for errors.
func (a *app) keyNames(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	conn, err := a.connect(ctx)
	if err != nil {
		return nil
	}
	defer conn.close()
	keys, err := listKeys(ctx, conn)
	if err != nil {
		return nil
	}
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = lastSegment(key.GetName())
	}
	return names
}

func (a *app) versionNames(ctx context.Context, key string) []string {
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	conn, err := a.connect(ctx)
	if err != nil {
		return nil
	}
	defer conn.close()
	name, err := parseKey(key, conn.namespace)
	if err != nil {
		return nil
	}
	info, err := conn.Keys().GetKey(ctx, &kmsv1.GetKeyRequest{Name: name.String()})
	if err != nil {
		return nil
	}
	names := make([]string, info.GetVersionCount())
	for i := range names {
		names[i] = key + "/" + strconv.Itoa(i+1)
	}
	return names
}
