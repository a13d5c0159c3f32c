package bench

import (
	"os"
	"strconv"
	"strings"
)

func cpuModel() string { return field("/proc/cpuinfo", "model name") }

func memoryMiB() int {
	kib, err := strconv.Atoi(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"))
	if err != nil {
		return 0
	}
	return kib / 1024
}

// field is the value of the first line "name : value" of a file as /proc has them.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		key, value, found := strings.Cut(line, ":")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
