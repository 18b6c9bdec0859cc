//go:build go1.26 && !go1.27

package start

import _ "unsafe" // for go:linkname

// initTask is the head of what the runtime knows of a package's
// initialisation: runtime.initTask of Go 1.26. Its layout is the runtime's own
// affair, hence the build constraint; another Go only starts more slowly.
type initTask struct {
	state uint32 // one of the states below, to begin with 0
	_     uint32 // how many functions follow
}

// initialised is the state of a package whose functions have run. The runtime
// passes over it.
const initialised = 2

// schemas is the initialisation of the JSON schema library that compose-go
// links: it compiles the meta-schemas of five drafts, a third of the time of
// davit version, for a check that no davit command makes (project/compose does
// its own, with file and line). So it never runs: nothing of that library may
// be called in this executable, which TestSchemaLibraryStaysAsleep of tests
// holds to.
//
//go:linkname schemas github.com/santhosh-tekuri/jsonschema/v6..inittask
var schemas initTask

func init() {
	schemas.state = initialised
}
