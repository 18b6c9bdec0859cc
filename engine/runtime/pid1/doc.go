// Package pid1 is the first process of a container with init: true: it runs the
// command, passes signals on to it, reaps whatever is orphaned, and ends as the
// command ends.
//
// An executable that links the package is that process when its first argument is
// pid1: `EXECUTABLE pid1 -- COMMAND…`. It is in C and a constructor, as
// libcontainer's own init is: Go's runtime, which would take 9 ms of every start
// and megabytes of every container, never begins.
package pid1
