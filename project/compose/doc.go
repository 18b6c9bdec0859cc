// Package compose makes a Project out of compose files, .env files and
// profiles.
package compose
