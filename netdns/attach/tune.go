package attach

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/netns"
	"github.com/davit-run/davit/netdns/sandbox"
)

// oneSysctl is what an endpoint may set: sysctls of its own interface, which
// IFNAME stands for, see
// https://docs.docker.com/reference/compose-file/services/#driver_opts-1.
var oneSysctl = regexp.MustCompile(`^net\.((?:ipv4|ipv6)\.(?:conf|neigh)|mpls\.conf)\.IFNAME\.([a-z0-9_]+)=([^,/]*)$`)

// tune sets the sysctls that the endpoint asks for.
func tune(ns *os.File, ep netdns.Endpoint) error {
	if ep.Sysctls == "" {
		return nil
	}
	return netns.In(ns, func() error {
		for word := range strings.SplitSeq(ep.Sysctls, ",") {
			m := oneSysctl.FindStringSubmatch(word)
			if m == nil {
				return fmt.Errorf("option %s: %q is not of the form net.ipv4.conf.IFNAME.KEY=VALUE", netdns.OptSysctls, word)
			}
			// An interface's name may have dots, which stay.
			path := strings.ReplaceAll(m[1], ".", "/") + "/" + ep.Interface + "/" + m[2]
			if err := sandbox.Sysctl(path, m[3]); err != nil {
				return fmt.Errorf("option %s: %w", netdns.OptSysctls, err)
			}
		}
		return nil
	})
}
