package compose

import (
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/format"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// shorts holds the short forms of ports and volumes against their grammar: the
// library names neither the service nor the line when one is wrong.
func (v *validator) shorts(doc *yaml.Node) {
	for _, section := range []string{"services", "jobs"} {
		services := value(doc, section)
		if services == nil {
			continue
		}
		services = resolve(services)
		for i := 0; i+1 < len(services.Content); i += 2 {
			at := []string{section, services.Content[i].Value}
			v.items(at, services.Content[i+1], "ports", v.port)
			v.items(at, services.Content[i+1], "volumes", v.volume)
			v.sources(at, services.Content[i+1])
		}
	}
}

// sources looks for bind mounts in the long form that name none.
func (v *validator) sources(at []string, service *yaml.Node) {
	for i, item := range list(value(service, "volumes")) {
		item = resolve(item)
		kind := value(item, "type")
		if kind == nil || kind.Value != "bind" || has(item, "source") || v.part {
			continue
		}
		v.path = append(append([]string{}, at...), "volumes", strconv.Itoa(i))
		v.again(item, "add source: and the directory or file of this host", "a bind mount needs a source")
		v.path = nil
	}
}

func (v *validator) items(at []string, service *yaml.Node, key string, look func(*yaml.Node, string)) {
	items := value(service, key)
	if items == nil || resolve(items).Kind != yaml.SequenceNode {
		return
	}
	for i, item := range resolve(items).Content {
		item = resolve(item)
		if item.Kind != yaml.ScalarNode {
			continue
		}
		text, known := v.text(item)
		if !known || v.plain && strings.Contains(text, "$") {
			continue
		}
		v.path = append(append([]string{}, at...), key, strconv.Itoa(i))
		look(item, text)
		v.path = nil
	}
}

func (v *validator) port(n *yaml.Node, text string) {
	if _, err := types.ParsePortConfig(text); err != nil {
		v.again(n, "write [IP:][HOST:]CONTAINER[/PROTOCOL], such as 127.0.0.1:8080:80/tcp; ports go from 1 to 65535",
			"%q is not a port: %s", shorten(text), shorten(lowerFirst(err.Error())))
	}
}

func (v *validator) volume(n *yaml.Node, text string) {
	if strings.TrimSpace(text) == "" {
		v.again(n, "write [SOURCE:]TARGET[:OPTIONS]", "the volume is empty")
		return
	}
	if _, err := format.ParseVolume(text); err != nil {
		v.again(n, "write [SOURCE:]TARGET[:OPTIONS], such as ./data:/data:ro", "%q is not a volume: %s", shorten(text), shorten(lowerFirst(err.Error())))
	}
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}
