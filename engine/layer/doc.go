// Package layer keeps layers as directories: it unpacks, exports, drafts and
// collects them.
package layer
