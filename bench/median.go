package bench

import "slices"

// median is the middle value, or the mean of the two middle ones; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// medianRound is the median of each figure.
func medianRound(rounds []Round) Round {
	of := func(figure func(*Round) float64) float64 {
		values := make([]float64, len(rounds))
		for i := range rounds {
			values[i] = figure(&rounds[i])
		}
		return median(values)
	}
	m := Round{
		ItemsPerSecond:    of(func(r *Round) float64 { return r.ItemsPerSecond }),
		RequestsPerSecond: of(func(r *Round) float64 { return r.RequestsPerSecond }),
		OfferedPerSecond:  of(func(r *Round) float64 { return r.OfferedPerSecond }),
		P50:               of(func(r *Round) float64 { return r.P50 }),
		P90:               of(func(r *Round) float64 { return r.P90 }),
		P99:               of(func(r *Round) float64 { return r.P99 }),
		P999:              of(func(r *Round) float64 { return r.P999 }),
		Max:               of(func(r *Round) float64 { return r.Max }),
		Errors:            of(func(r *Round) float64 { return r.Errors }),
		Unserved:          of(func(r *Round) float64 { return r.Unserved }),
		ServerCPU:         of(func(r *Round) float64 { return r.ServerCPU }),
		ClientCPU:         of(func(r *Round) float64 { return r.ClientCPU }),
		OthersCPU:         of(func(r *Round) float64 { return r.OthersCPU }),
	}
	var perItem []float64
	for i := range rounds {
		if rounds[i].TokenCalls != nil {
			perItem = append(perItem, *rounds[i].TokenCalls)
		}
	}
	if len(perItem) > 0 {
		middle := median(perItem)
		m.TokenCalls = &middle
	}
	return m
}
