package bench

// Claim is a figure that the project holds itself to. Exactly one of AtLeast, AtMost and
// Shown is set.
type Claim struct {
	Name string
	// Figure says what is compared. Where Over is nil it is Of's own.
	Figure  Figure
	Of      Scenario
	Over    *Scenario
	AtLeast float64
	AtMost  float64
	Aim     float64 // what would be good; 0: no more than the bound
	Shown   bool    // nothing is claimed: the figure is there to compare others with
	Meaning string
}

// Figure is a measured quantity.
type Figure string

// The figures that claims are made of.
const (
	Throughput Figure = "items per second"
	MedianTime Figure = "median latency"
	TokenCalls Figure = "token calls per item" //nolint:gosec // no credential
	PeakMemory Figure = "peak memory of the server in MiB"
)

// Claims lists the claims, in the order in which they are printed.
func Claims() []Claim {
	return []Claim{
		{
			Name: "unwrap_batch1024_vs_strict", Of: derivedBatch, Over: &strictBatch, AtLeast: 13, Aim: 20,
			Meaning: "batches of 1,024: keys derived in one token call, against AES-GCM inside the HSM for each",
		},
		{
			Name: "unwrap_batch1024_vs_echo", Of: derivedBatch, Over: &echoBatch, AtLeast: 0.42, Aim: 0.6,
			Meaning: "batches of 1,024, against an echo of the same messages",
		},
		{
			Name: "unwrap_batch1024_context2_vs_echo", Of: contextBatch, Over: &contextEcho, AtLeast: 0.4, Aim: 0.6,
			Meaning: "the same, with an encryption context of two pairs in each request",
		},
		{
			Name: "unwrap_unary_vs_echo", Of: unary, Over: &unaryEcho, AtLeast: 0.5, Aim: 0.7,
			Meaning: "one key a request, 64 callers, against an echo",
		},
		{
			Name: "unwrap_unary_5ms_vs_one_call_each", Of: unarySlow, Over: &unaryOneCall, AtLeast: 9, Aim: 12,
			Meaning: "one key a request, 64 callers, an HSM that takes 5 ms, 4 sessions: coalescing on against off",
		},
		{
			Name: "client_coalesced_vs_unary", Of: clientUnary, Over: &unary, AtLeast: 4, Aim: 8,
			Meaning: "64 goroutines whose unwraps the Go client merges, against a request for each",
		},
		{
			Name: "unwrap_1000_keys_vs_1_key", Of: unaryManyKeys, Over: &unary, AtLeast: 0.7, Aim: 0.9,
			Meaning: "one key a request, 64 callers: items of 1,000 KMS keys in turn, against items of one",
		},
		{
			Name: "unwrap_512_callers_vs_64", Of: unaryCrowd, Over: &unary, AtLeast: 0.9, Aim: 1,
			Meaning: "one key a request: 512 callers against 64",
		},
		{
			Name: "sign_p256_vs_token", Of: signP256, Over: &tokenP256, AtLeast: 0.6, Aim: 0.8,
			Meaning: "ECDSA P-256 signatures, one a request, 32 callers, against the token by itself with a caller for each session",
		},
		{
			Name: "sign_p256_client_vs_token", Of: signP256Client, Over: &tokenP256, AtLeast: 0.6, Aim: 0.8,
			Meaning: "the same by 32 callers of the Go client, which merges their requests",
		},
		{
			Name: "sign_p256_lean_vs_token", Of: signP256Lean, Over: &tokenP256, Shown: true,
			Meaning: "the same one a request, by a load generator that takes less of the cores",
		},
		{
			Name: "sign_rsa2048_vs_token", Of: signRSA, Over: &tokenRSA, AtLeast: 0.9, Aim: 1,
			Meaning: "RSA-2048 signatures, one a request, 32 callers, against the token by itself",
		},
		{
			Name: "sign_rsa2048_client_vs_token", Of: signRSAClient, Over: &tokenRSA, AtLeast: 0.9, Aim: 1,
			Meaning: "the same by 32 callers of the Go client, which merges their requests",
		},
		{
			Name: "sign_rsa2048_lean_vs_token", Of: signRSALean, Over: &tokenRSA, Shown: true,
			Meaning: "the same one a request, by a load generator that takes less of the cores",
		},
		{
			Name: "batchsign_vs_unary", Of: signP256Batch, Over: &signP256, AtLeast: 1.3,
			Meaning: "ECDSA P-256 signatures in batches of 64 from 4 callers, against one a request from 32",
		},
		{
			Name: "token_calls_per_key", Figure: TokenCalls, Of: derivedBatch, AtMost: 0.001,
			Meaning: "token calls per data key in batches of 1,024",
		},
		{
			Name: "unwrap_p50_10000_versions_vs_10", Figure: MedianTime, Of: manyVersions, Over: &fewVersions, AtMost: 1.2,
			Meaning: "median latency of one unwrap with 10,000 key versions in the token, against 10",
		},
		{
			Name: "memory_64_batches_of_4096_mib", Figure: PeakMemory, Of: memory, AtMost: 512,
			Meaning: "peak memory of kmsd in MiB while 64 batches of 4,096 are under way",
		},
	}
}

func (c *Claim) figure() Figure {
	if c.Figure == "" {
		return Throughput
	}
	return c.Figure
}
