// Command davit runs the services of a compose file on this machine.
package main

import (
	"os"

	"github.com/davit-run/davit/cmd/cli"
	_ "github.com/davit-run/davit/cmd/davit/start"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
