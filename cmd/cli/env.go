package cli

import (
	"os"
	"strconv"
)

// envInt is a number from the environment, or otherwise when it is none.
func envInt(key string, otherwise int) int {
	n, err := strconv.Atoi(os.Getenv(key))
	if err != nil {
		return otherwise
	}
	return n
}

// envBool is a switch from the environment, or otherwise when it is not set.
func envBool(key string, otherwise bool) bool {
	b, err := strconv.ParseBool(os.Getenv(key))
	if err != nil {
		return otherwise
	}
	return b
}
