// Package artifact is a project's files as the parts of an OCI artefact, and
// back.
package artifact
