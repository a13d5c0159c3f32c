//go:build !linux

package bench

import (
	"context"
	"strconv"
)

func cpuModel() string {
	return output(context.Background(), "sysctl", "-n", "machdep.cpu.brand_string")
}

func memoryMiB() int {
	bytes, err := strconv.Atoi(output(context.Background(), "sysctl", "-n", "hw.memsize"))
	if err != nil {
		return 0
	}
	return bytes >> 20
}
