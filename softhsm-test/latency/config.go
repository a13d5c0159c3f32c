package latency

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Config is what the module is told by the environment of the process that loads it. The
// module checks it when it is loaded, writes what is wrong to standard error, and then
// loads as little as one that is missing.
type Config struct {
	// Module is the path of the real module.
	Module string
	// Delay is how long each delayed call takes beside the real module's own time; from
	// 0, with which calls are only forwarded, to an hour.
	Delay time.Duration
	// Calls are the names of the PKCS#11 functions that are delayed, such as
	// "C_EncryptInit"; none stands for DefaultCalls.
	Calls []string
	// Served is how many delayed calls the device serves at a time; 0 means as many as
	// there are sessions. Calls beyond it wait.
	Served int
}

// DefaultCalls are the calls that are delayed unless others are named: the operations of
// the data path, one round trip each.
func DefaultCalls() []string {
	return []string{"C_Encrypt", "C_Decrypt", "C_Sign", "C_GenerateRandom"}
}

// The environment variables that the module reads.
const (
	moduleVariable   = "KEYHOLT_LATENCY_MODULE"
	delayVariable    = "KEYHOLT_LATENCY_DELAY"
	callsVariable    = "KEYHOLT_LATENCY_CALLS"
	sessionsVariable = "KEYHOLT_LATENCY_SESSIONS"
)

// Env is the configuration as environment variables, NAME=value, for exec.Cmd.Env. It
// sets each variable, so that none is inherited.
func (c Config) Env() []string {
	calls := c.Calls
	if len(calls) == 0 {
		calls = DefaultCalls()
	}
	return []string{
		moduleVariable + "=" + c.Module,
		delayVariable + "=" + fmt.Sprintf("%dns", c.Delay.Nanoseconds()),
		callsVariable + "=" + strings.Join(calls, ","),
		sessionsVariable + "=" + strconv.Itoa(c.Served),
	}
}
