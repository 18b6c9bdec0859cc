package console

import (
	"fmt"
	"hash/fnv"
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

// ansiColors are the colours of prefixes, in the order docker compose gives
// them out.
var ansiColors = [...]string{"6", "3", "2", "5", "4", "14", "11", "10", "13", "12"}

// Color decides whether prefixes are coloured. Mode is --ansi's: never, always,
// or auto (also when empty), which means a terminal, unless NO_COLOR is set
// (https://no-color.org) or TERM is dumb. Getenv is os.Getenv.
func Color(mode string, noColor, terminal bool, getenv func(string) string) (bool, error) {
	switch mode {
	case "never":
		return false, nil
	case "always":
		return !noColor, nil
	case "", "auto":
		return !noColor && terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb", nil
	}
	return false, fmt.Errorf("%q is not a mode for --ansi, use never, always or auto", mode)
}

// A palette gives every service its colour.
type palette struct {
	renderer *lipgloss.Renderer
	styles   map[string]lipgloss.Style
	used     map[int]bool
}

func newPalette(services []string) palette {
	r := lipgloss.NewRenderer(io.Discard)
	r.SetColorProfile(termenv.ANSI)
	p := palette{renderer: r, styles: map[string]lipgloss.Style{}, used: map[int]bool{}}
	for i, s := range services {
		p.set(s, i%len(ansiColors))
	}
	return p
}

func (p palette) set(service string, i int) lipgloss.Style {
	p.used[i] = true
	style := p.renderer.NewStyle().Foreground(lipgloss.Color(ansiColors[i]))
	p.styles[service] = style
	return style
}

// of is a service's colour. One that was not foreseen gets that of its name, or
// the next that is free.
func (p palette) of(service string) lipgloss.Style {
	if s, ok := p.styles[service]; ok {
		return s
	}
	h := fnv.New32a()
	h.Write([]byte(service))
	i := int(h.Sum32() % uint32(len(ansiColors)))
	for n := 0; p.used[i] && n < len(ansiColors); n++ {
		i = (i + 1) % len(ansiColors)
	}
	return p.set(service, i)
}

// service is the name of a container without its number: web of web-1.
func service(source string) string {
	i := strings.LastIndexByte(source, '-')
	if i <= 0 || strings.Trim(source[i+1:], "0123456789") != "" {
		return source
	}
	return source[:i]
}
