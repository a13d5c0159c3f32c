package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keyholt/keyholt/kms/client"
)

// running is a server that scenarios run against.
type running struct {
	*process
	profile client.Profile
	metrics string // URL; "" if it has none
}

// The collector of the echo server works as kmsd sets its own, unless the environment
// says something else for both.
var echoTuning = map[string]string{"GOGC": "1000", "GOMEMLIMIT": "384MiB"}

// startEcho starts the echo server with the certificates of the site.
func startEcho(ctx context.Context, s *site, dir string, command []string) (*running, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var env []string
	for name, value := range echoTuning {
		if os.Getenv(name) == "" {
			env = append(env, name+"="+value)
		}
	}
	tls := filepath.Join(s.dir, "tls")
	args := append(command[1:len(command):len(command)], "--listen", anyPort,
		"--cert-file", filepath.Join(tls, "server.pem"), "--key-file", filepath.Join(tls, "server-key.pem"),
		"--client-ca-file", filepath.Join(tls, "ca.pem"))
	p, err := startProcess(ctx, dir, "the echo server", env, command[0], args...)
	if err != nil {
		return nil, err
	}
	return newRunning(p, s)
}

// startServer starts kmsd on a site of its own.
func startServer(ctx context.Context, s *site, server Server, kmsd string) (*running, error) {
	config, env, err := s.writeConfig(ctx, server)
	if err != nil {
		return nil, err
	}
	p, err := startProcess(ctx, s.dir, "kmsd", env, kmsd, "serve", "--config", config)
	if err != nil {
		return nil, err
	}
	return newRunning(p, s)
}

func newRunning(p *process, s *site) (*running, error) {
	address := p.log.address("tcp")
	if address == "" {
		p.stop()
		return nil, fmt.Errorf("%w: the log of %s names no address\n%s", ErrProcess, p.name, p.log.tail())
	}
	r := &running{process: p, profile: s.profile(address)}
	if metrics := p.log.address("metrics"); metrics != "" {
		r.metrics = "http://" + metrics + "/metrics"
	}
	return r, nil
}

// sites are the directories of keys that servers run on.
type sites struct {
	kmsd string
	echo []string // command
	work string   // where servers run: on the disk, as in production
	// scratch is where keys are made: in memory, where syncing each object takes no time.
	scratch string
	origins map[int]*site    // by Server.Versions
	items   map[int]*fixture // likewise
	copies  int
}

// prepare makes the keys and items of the scenarios.
func (d *sites) prepare(ctx context.Context, scenarios []Scenario, progress func(string)) error {
	sets := map[int][]set{}
	seen := map[set]bool{}
	for _, s := range scenarios {
		if key := s.set(); !seen[key] && !s.Server.Token {
			seen[key] = true
			sets[s.Server.Versions] = append(sets[s.Server.Versions], key)
		}
	}
	for versions, list := range sets {
		keys := 0
		for _, s := range list {
			keys = max(keys, s.keys, s.versions)
		}
		progress(fmt.Sprintf("making a token with up to %d keys of a profile", keys))
		f := newFixture()
		origin, err := newSite(ctx, d.kmsd, filepath.Join(d.scratch, fmt.Sprintf("origin-%d", versions)),
			func(ctx context.Context, p client.Profile, objects *shelf) error {
				return f.makeKeys(ctx, p, list, objects)
			},
			func(ctx context.Context, p client.Profile) error { return f.makeItems(ctx, p, list) })
		if err != nil {
			return err
		}
		d.origins[versions], d.items[versions] = origin, f
	}
	return nil
}

// start starts a server as a scenario needs it.
func (d *sites) start(ctx context.Context, server Server) (*running, error) {
	origin := d.origins[server.Versions]
	if origin == nil {
		return nil, errors.New("no token was made for this server")
	}
	d.copies++
	dir := filepath.Join(d.work, fmt.Sprintf("server-%d", d.copies))
	if server.Echo {
		return startEcho(ctx, origin, dir, d.echo)
	}
	own, err := origin.copyTo(dir)
	if err != nil {
		return nil, err
	}
	return startServer(ctx, own, server, d.kmsd)
}
