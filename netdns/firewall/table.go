package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
)

// A Net is a network as the table sees it.
type Net struct {
	Bridge   string
	Subnets  []netip.Prefix
	Internal bool // no way out, no way in
	Bare     bool // leaves with the containers' own addresses: no masquerade
}

// A Port is one published port of one family.
type Port struct {
	Protocol string     // tcp, udp, sctp
	On       netip.Addr // zero or unspecified: every address of the host
	Port     uint16
	To       netip.AddrPort
}

// Wanted is everything the table is to hold.
type Wanted struct {
	Nets  []Net
	Ports []Port
	// Guard drops what is forwarded between links that are no davit's: for a
	// host that did not forward before davit came.
	Guard bool
}

// Table is an installation's table in family inet. All chains hook once; what
// differs by network or port is an element of a set or map, so that a packet
// costs the same with one network and with a hundred. Each change is one
// transaction: nobody ever sees half of it. Safe for concurrent use.
type Table struct {
	mu   sync.Mutex
	conn *nftables.Conn
	tag  netdns.Tag
	t    *nftables.Table
	note map[string]int // rules queued by chain; nil: nobody counts
}

// Open returns the installation's table in the namespace of the calling
// thread. It makes nothing yet.
func Open(tag netdns.Tag) (*Table, error) {
	conn, err := dial()
	if err != nil {
		return nil, fmt.Errorf("open nftables socket: %w", err)
	}
	t := &nftables.Table{Name: tag.Table(), Family: nftables.TableFamilyINet}
	return &Table{conn: conn, tag: tag, t: t}, nil
}

// Close gives the socket back; the table stays.
func (t *Table) Close() error { return t.conn.CloseLasting() }

// ErrAbsent says that the table, or a part of it, is not there: somebody
// flushed it, or it was never made. Replace makes it.
var ErrAbsent = errors.New("firewall table is not complete")

// Replace makes the table hold exactly what is wanted, in one transaction.
func (t *Table) Replace(w Wanted) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn.AddTable(t.t) // deleting what is not there would fail
	t.conn.DelTable(t.t)
	if _, err := t.queue(t.sets(), w); err != nil {
		return t.abandon(err)
	}
	return t.flush("install firewall table")
}

// queue writes the whole table into the transaction and returns its elements.
func (t *Table) queue(s sets, w Wanted) (batch, error) {
	t.conn.AddTable(t.t)
	if err := t.addSets(s); err != nil {
		return nil, err
	}
	t.base(s, w.Guard)
	b := batch{}
	for _, n := range w.Nets {
		t.network(s, n, false)
		b.network(s, n)
	}
	return b, errors.Join(b.ports(s, w.Ports), t.send(s, b, true))
}

// Add makes one more network stand in the table. It is idempotent.
func (t *Table) Add(n Net) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, b := t.sets(), batch{}
	t.network(s, n, true)
	b.network(s, n)
	if err := t.send(s, b, true); err != nil {
		return t.abandon(err)
	}
	return t.flush("add network to firewall")
}

// Publish adds ports. It is idempotent.
func (t *Table) Publish(ports []Port) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, b := t.sets(), batch{}
	if err := errors.Join(b.ports(s, ports), t.send(s, b, true)); err != nil {
		return t.abandon(err)
	}
	return t.flush("publish ports")
}

// Unpublish takes ports away. The error is ErrAbsent when one of them was not
// there; then nothing was changed and Replace is the way on.
func (t *Table) Unpublish(ports []Port) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, b := t.sets(), batch{}
	if err := errors.Join(b.ports(s, ports), t.send(s, b, false)); err != nil {
		return t.abandon(err)
	}
	return t.flush("unpublish ports")
}

// Remove deletes the whole table; one that is not there is no error.
func (t *Table) Remove() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn.AddTable(t.t)
	t.conn.DelTable(t.t)
	return t.flush("remove firewall table")
}

// Stands says whether the table is there with all its base chains and rules.
func (t *Table) Stands() (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range []string{chainRaw, chainForward, chainPost} {
		rules, err := t.conn.GetRules(t.t, &nftables.Chain{Name: c, Table: t.t})
		if errors.Is(err, unix.ENOENT) || err == nil && len(rules) == 0 {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("look at firewall table: %w", err)
		}
	}
	return true, nil
}

// flush sends what is queued as one transaction.
func (t *Table) flush(what string) error {
	err := t.conn.Flush()
	if err == nil {
		return nil
	}
	// The kernel answers each message of a batch that failed; what the
	// library left unread would be taken for the next batch's answers.
	t.redial()
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: %w: %w", what, ErrAbsent, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// abandon forgets what is queued.
func (t *Table) abandon(err error) error {
	t.redial()
	return err
}

func (t *Table) redial() {
	if again, err := dial(); err == nil {
		_ = t.conn.CloseLasting()
		t.conn = again
	}
}

// socketBuffer holds a transaction and the kernel's answers to each of its
// messages, which all come before the first is read: a thousand networks.
const socketBuffer = 16 << 20

func dial() (*nftables.Conn, error) {
	return nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer))
	}))
}
