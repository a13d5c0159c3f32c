package main

import "strings"

// parsePairs parses the values of a repeated flag of the form KEY=VALUE. The value may
// hold further equals signs, and may be empty.
func parsePairs(flag string, args []string) (map[string]string, error) {
	if len(args) == 0 {
		return nil, nil //nolint:nilnil // no pairs
	}
	pairs := make(map[string]string, len(args))
	for _, arg := range args {
		key, value, found := strings.Cut(arg, "=")
		if !found || key == "" {
			return nil, usagef("--%s %q: want KEY=VALUE", flag, arg)
		}
		if _, twice := pairs[key]; twice {
			return nil, usagef("--%s: %q is given twice", flag, key)
		}
		pairs[key] = value
	}
	return pairs, nil
}
