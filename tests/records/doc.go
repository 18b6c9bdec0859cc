// Package records keeps what netdns records as plain files, for tests.
package records
