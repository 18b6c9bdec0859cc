// Package keeper is what outlives the command line: one process per project
// that starts, watches and stops its containers, restarts them, probes their
// health, serves their names and ports, and answers commands on a socket.
package keeper
