package bench

import (
	"slices"
	"time"
)

// ClaimResult is what became of a claim.
type ClaimResult struct {
	Name    string  `json:"name"`
	Meaning string  `json:"meaning"`
	Figure  Figure  `json:"figure"` // what the sides are
	Value   float64 `json:"value"`  // median of Rounds
	AtLeast float64 `json:"at_least,omitempty"`
	AtMost  float64 `json:"at_most,omitempty"`
	Aim     float64 `json:"aim,omitempty"`
	Pass    bool    `json:"pass"`
	// Rounds are the values of the rounds; of a ratio, that of the two runs of each.
	Rounds []float64 `json:"rounds"`
	Of     string    `json:"of"`
	Over   string    `json:"over,omitempty"`
	// The medians of both sides.
	OfValue   float64 `json:"of_value"`
	OverValue float64 `json:"over_value,omitempty"`
}

// judge works out those claims whose scenarios were run.
func (r *Report) judge(claims []Claim, latency time.Duration) {
	r.Ratios = map[string]float64{}
	for _, claim := range claims {
		result, ok := r.judgeOne(&claim, latency)
		if !ok {
			continue
		}
		r.Ratios[claim.Name] = result.Value
		r.Claims = append(r.Claims, result)
	}
}

func (r *Report) judgeOne(c *Claim, latency time.Duration) (ClaimResult, bool) {
	result := ClaimResult{
		Name: c.Name, Meaning: c.Meaning, Figure: c.figure(), AtLeast: c.AtLeast, AtMost: c.AtMost, Aim: c.Aim,
	}
	of, ok := r.values(c.figure(), delayed(c.Of, latency))
	if !ok {
		return result, false
	}
	result.Of, result.OfValue, result.Rounds = delayed(c.Of, latency).Name(), median(of), of
	if c.Over != nil {
		over, ok := r.values(c.figure(), delayed(*c.Over, latency))
		if !ok || len(over) != len(of) {
			return result, false
		}
		result.Over, result.OverValue, result.Rounds = delayed(*c.Over, latency).Name(), median(over), make([]float64, len(of))
		for i := range of {
			if over[i] > 0 {
				result.Rounds[i] = of[i] / over[i]
			}
		}
	}
	result.Value = median(result.Rounds)
	result.Pass = !r.failures(result.Of, result.Over) &&
		(c.AtLeast == 0 || result.Value >= c.AtLeast) && (c.AtMost == 0 || result.Value <= c.AtMost)
	return result, true
}

// values are a figure's values in the rounds of a scenario.
func (r *Report) values(f Figure, s Scenario) ([]float64, bool) {
	result := r.find(s.Name())
	if result == nil {
		return nil, false
	}
	if f == PeakMemory {
		return []float64{result.PeakMiB}, result.PeakMiB > 0
	}
	values := make([]float64, 0, len(result.Rounds))
	for i := range result.Rounds {
		value, ok := result.Rounds[i].figure(f)
		if !ok {
			return nil, false
		}
		values = append(values, value)
	}
	return values, len(values) > 0
}

// failures tells whether requests of a scenario failed: then its figures prove nothing.
func (r *Report) failures(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		result := r.find(name)
		return result != nil && result.FirstFail != ""
	})
}
