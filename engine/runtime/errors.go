package runtime

import (
	"errors"
	"strings"
)

// Exit codes of a process that could not be started, as docker gives them.
const (
	ExitCannotRun = 126 // found, and not executable
	ExitNotFound  = 127
)

// unwrapInit takes the layers of plumbing off an error that a container's init
// reported; what is left names the cause.
func unwrapInit(err error) error {
	text := err.Error()
	for _, p := range []string{
		"unable to start container process: ", "error during container init: ",
		"error executing setns process: ",
	} {
		text = strings.TrimPrefix(text, p)
	}
	return &StartError{Code: startCode(text), text: text, err: err}
}

// A StartError says why a process could not be started, and the exit code that
// tells the same to a script.
type StartError struct {
	Code int // 126, 127, or 1 when the fault is not the command's
	text string
	err  error
}

// Error is the cause alone.
func (e *StartError) Error() string { return e.text }

// Unwrap is the error as libcontainer gave it.
func (e *StartError) Unwrap() error { return e.err }

func startCode(text string) int {
	// libcontainer hands its init's errors over as text.
	command := strings.HasPrefix(text, "exec: ")
	switch {
	case strings.Contains(text, "executable file not found"),
		command && strings.Contains(text, "no such file or directory"):
		return ExitNotFound
	case command && (strings.Contains(text, "permission denied") || strings.Contains(text, "is a directory")):
		return ExitCannotRun
	}
	return 1
}

// ExitCode is the exit code for an error of a start: 126 or 127 when the
// command is at fault, else 1.
func ExitCode(err error) int {
	var s *StartError
	if errors.As(err, &s) {
		return s.Code
	}
	return 1
}
