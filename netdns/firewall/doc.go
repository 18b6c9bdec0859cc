// Package firewall keeps the one nftables table of an installation: isolation,
// masquerade and published ports.
package firewall
