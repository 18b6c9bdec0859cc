// Package systemd is as much of systemd, for tests, as makes units around
// processes that run already, on the socket that the real one listens at.
package systemd
