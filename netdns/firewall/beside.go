package firewall

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// LetThrough lets a bridge's packets pass another program's FORWARD chain when
// that drops by policy (Docker, ufw): an accept in our table does not help, for
// a drop in any table is final, and our own table has dropped before what must
// not pass. The rules go into DOCKER-USER where it exists, else to the head of
// FORWARD, in the two forms that `iptables -S` and iptables-save keep:
// `-i X -j ACCEPT` and `-o X -j ACCEPT`. It is idempotent.
func (t *Table) LetThrough(bridge string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		c, err := t.dropping(f)
		if err != nil || c == nil {
			if err != nil {
				return err
			}
			continue
		}
		for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			there, err := t.passes(c, key, bridge)
			if err != nil {
				return err
			}
			if len(there) == 0 {
				t.conn.InsertRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: pass(key, bridge)})
			}
		}
	}
	return t.flush("let " + bridge + " through the FORWARD chain")
}

// StopLetting takes LetThrough's rules away. It is idempotent.
func (t *Table) StopLetting(bridge string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	chains, err := t.conn.ListChains()
	if err != nil {
		return fmt.Errorf("list firewall chains: %w", err)
	}
	for _, c := range chains {
		if !filterTable(c.Table) || c.Name != "FORWARD" && c.Name != "DOCKER-USER" {
			continue
		}
		for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			rules, err := t.passes(c, key, bridge)
			if err != nil {
				return err
			}
			for _, r := range rules {
				if err := t.conn.DelRule(r); err != nil {
					return t.abandon(err)
				}
			}
		}
	}
	return t.flush("stop letting " + bridge + " through")
}

func filterTable(t *nftables.Table) bool {
	ip := t.Family == nftables.TableFamilyIPv4 || t.Family == nftables.TableFamilyIPv6
	return ip && t.Name == "filter"
}

// dropping returns the chain to put our rules into, or nil where the family's
// FORWARD chain drops nothing by policy.
func (t *Table) dropping(f nftables.TableFamily) (*nftables.Chain, error) {
	chains, err := t.conn.ListChainsOfTableFamily(f)
	if err != nil {
		return nil, fmt.Errorf("list firewall chains: %w", err)
	}
	var user, forward *nftables.Chain
	for _, c := range chains {
		if !filterTable(c.Table) {
			continue
		}
		switch c.Name {
		case "DOCKER-USER":
			user = c
		case "FORWARD":
			if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
				forward = c
			}
		}
	}
	if forward != nil && user != nil {
		return user, nil
	}
	return forward, nil
}

// pass is `meta iifname X counter accept`, or oifname: what iptables-nft shows
// as -i X -j ACCEPT.
func pass(key expr.MetaKey, bridge string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(bridge), 0)},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

// passes finds our rules in a chain.
func (t *Table) passes(c *nftables.Chain, key expr.MetaKey, bridge string) ([]*nftables.Rule, error) {
	rules, err := t.conn.GetRules(c.Table, c)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list rules of %s: %w", c.Name, err)
	}
	var out []*nftables.Rule
	for _, r := range rules {
		if len(r.Exprs) != 4 {
			continue
		}
		m, isMeta := r.Exprs[0].(*expr.Meta)
		d, isCmp := r.Exprs[1].(*expr.Cmp)
		v, isVerdict := r.Exprs[3].(*expr.Verdict)
		if isMeta && isCmp && isVerdict && m.Key == key && v.Kind == expr.VerdictAccept &&
			string(bytes.TrimRight(d.Data, "\x00")) == bridge {
			out = append(out, r)
		}
	}
	return out, nil
}

// Beside says whether another program has a table of that name in family inet.
func (t *Table) Beside(name string) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all, err := t.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list firewall tables: %w", err)
	}
	for _, o := range all {
		if o.Name == name {
			return true, nil
		}
	}
	return false, nil
}
