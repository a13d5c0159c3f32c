package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
)

// counters are what kmsd's metrics say of the token.
type counters struct {
	tokenCalls float64 // operations that the module ran for items
	items      float64 // that were served
}

// readCounters reads the metrics of a server.
func readCounters(ctx context.Context, url string) (counters, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return counters{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return counters{}, err
	}
	defer func() { _ = response.Body.Close() }() // was read
	if response.StatusCode != http.StatusOK {
		return counters{}, fmt.Errorf("%s: %s", url, response.Status)
	}
	return parseCounters(response.Body)
}

// sample is a line of the Prometheus text format: name, labels, value.
var (
	sample = regexp.MustCompile(`^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)`)
	label  = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
)

// itemOperations are the operations of the token that items need. Random bytes are drawn
// for a request, not for an item.
var itemOperations = []string{"encrypt_blocks", "seal", "open", "sign"}

// parseCounters reads the Prometheus text format.
func parseCounters(text io.Reader) (c counters, err error) {
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		m := sample.FindStringSubmatch(lines.Text())
		if m == nil {
			continue // a comment
		}
		labels := map[string]string{}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = l[2]
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return c, fmt.Errorf("metrics: %q: %w", lines.Text(), err)
		}
		switch {
		case m[1] == "keyholt_token_calls_total" && slices.Contains(itemOperations, labels["operation"]):
			c.tokenCalls += value
		case m[1] == "keyholt_items_total" && labels["outcome"] == "OK":
			c.items += value
		}
	}
	return c, lines.Err()
}
