// Package quota bounds how much a directory tree may hold, by the project
// quotas of the file system that it lies on.
package quota
