package ipam

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"github.com/davit-run/davit/netdns"
)

// Space is where subnets are taken from when a compose file names none: /24s
// of the IPv4 ranges, /64s of a /48 below fd00::/8 that is this installation's.
type Space struct {
	Ranges []netip.Prefix
	IPv6   netip.Prefix
	Tag    netdns.Tag
}

// Standard is the space of an installation: 172.16.0.0/12 without Docker's own
// 172.17.0.0/16, then 10.128.0.0/9, together 36,352 subnets.
func Standard(tag netdns.Tag) Space {
	sum := sha256.Sum256([]byte("davit ipv6 " + string(tag)))
	a := [16]byte{0xfd, sum[0], sum[1], sum[2], sum[3], sum[4]} // RFC 4193, 40 random bits
	return Space{
		Ranges: []netip.Prefix{
			netip.MustParsePrefix("172.18.0.0/15"), netip.MustParsePrefix("172.20.0.0/14"),
			netip.MustParsePrefix("172.24.0.0/13"), netip.MustParsePrefix("10.128.0.0/9"),
		},
		IPv6: netip.PrefixFrom(netip.AddrFrom16(a), 48),
		Tag:  tag,
	}
}

// File is where a person may say, below the data directory, which ranges
// subnets are taken from: {"ipv4": ["10.200.0.0/14"], "ipv6": "fd12:3456:789a::/48"}.
// What it leaves out is as in Standard.
const File = "address-pools.json"

// Read returns the space that the file at path describes; Standard when there
// is no file.
func Read(path string, tag netdns.Tag) (Space, error) {
	s := Standard(tag)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read address pools: %w", err)
	}
	var file struct {
		IPv4 []netip.Prefix `json:"ipv4"`
		IPv6 netip.Prefix   `json:"ipv6"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return s, fmt.Errorf("read address pools %s: %w", path, err)
	}
	for _, p := range file.IPv4 {
		if !p.Addr().Is4() || p.Bits() > 24 || p.Masked() != p {
			return s, fmt.Errorf("address pools %s: %s is not a range of /24 networks", path, p)
		}
	}
	if p := file.IPv6; p.IsValid() && (!p.Addr().Is6() || p.Bits() > 48 || p.Masked() != p) {
		return s, fmt.Errorf("address pools %s: %s does not hold 65,536 /64 networks", path, p)
	}
	if len(file.IPv4) > 0 {
		s.Ranges = file.IPv4
	}
	if file.IPv6.IsValid() {
		s.IPv6 = file.IPv6
	}
	return s, nil
}

// A Use is a subnet that somebody has already.
type Use struct {
	Subnet netip.Prefix
	By     string // who, for messages
}

// Choose returns the first free subnet of the asked family. Installations
// other than the standard one begin elsewhere, so that two that choose in the
// same instant rarely meet.
func (s Space) Choose(ipv6 bool, used []Use) (netip.Prefix, error) {
	start := 0
	if s.Tag != netdns.TagOf(netdns.StandardDir) {
		sum := sha256.Sum256([]byte(s.Tag))
		start = int(binary.BigEndian.Uint16(sum[:]))
	}
	total := s.count(ipv6)
	for i := range total {
		p := s.at(ipv6, (start+i)%total)
		if u := Overlap(p, used); u == nil {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("choose a subnet: all %d are taken, %s", total, holders(used))
}

func (s Space) count(ipv6 bool) int {
	if ipv6 {
		return 1 << 16
	}
	n := 0
	for _, r := range s.Ranges {
		n += 1 << max(0, 24-r.Bits())
	}
	return n
}

func (s Space) at(ipv6 bool, i int) netip.Prefix {
	if ipv6 {
		a := s.IPv6.Addr().As16()
		binary.BigEndian.PutUint16(a[6:], uint16(i))
		return netip.PrefixFrom(netip.AddrFrom16(a), 64)
	}
	for _, r := range s.Ranges {
		n := 1 << max(0, 24-r.Bits())
		if i >= n {
			i -= n
			continue
		}
		a := r.Addr().As4()
		binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])+uint32(i)<<8)
		return netip.PrefixFrom(netip.AddrFrom4(a), max(24, r.Bits()))
	}
	return netip.Prefix{}
}

// Overlap returns the first use that overlaps p, or nil.
func Overlap(p netip.Prefix, used []Use) *Use {
	for i := range used {
		if used[i].Subnet.Overlaps(p) {
			return &used[i]
		}
	}
	return nil
}

func holders(used []Use) string {
	s := ""
	for i, u := range used {
		if i == 20 {
			return s + fmt.Sprintf(" and %d more", len(used)-i)
		}
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%s by %s", u.Subnet, u.By)
	}
	return s
}

// Complete checks a pool and fills in its gateway: the first address of the
// subnet, or of the range when the file names one.
func Complete(p netdns.Pool) (netdns.Pool, error) {
	if !p.Subnet.IsValid() || p.Subnet.Masked() != p.Subnet {
		return p, fmt.Errorf("subnet %s: write the network's own address, such as %s", p.Subnet, p.Subnet.Masked())
	}
	if p.Subnet.Addr().BitLen()-p.Subnet.Bits() < 2 {
		return p, fmt.Errorf("subnet %s: too small for a gateway and a container", p.Subnet)
	}
	if p.Range.IsValid() && (p.Range.Bits() < p.Subnet.Bits() || !p.Subnet.Overlaps(p.Range)) {
		return p, fmt.Errorf("ip_range %s: is not inside subnet %s", p.Range, p.Subnet)
	}
	if !p.Gateway.IsValid() {
		p.Gateway = p.Subnet.Addr().Next()
		if p.Range.IsValid() && p.Range.Masked().Addr() != p.Subnet.Addr() {
			p.Gateway = p.Range.Masked().Addr()
		}
	}
	if !p.Subnet.Contains(p.Gateway) {
		return p, fmt.Errorf("gateway %s: is not inside subnet %s", p.Gateway, p.Subnet)
	}
	for name, a := range p.Aux {
		if !p.Subnet.Contains(a) {
			return p, fmt.Errorf("aux_addresses %s %s: is not inside subnet %s", name, a, p.Subnet)
		}
	}
	return p, nil
}
