package render

// Here names a file as seen from the working directory, when it is below it.
func Here(path string) string { return fromHere(path) }
