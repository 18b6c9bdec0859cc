package desired

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path"
	"strconv"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/project"
)

// maxContent is the most bytes that a secret or config may hold: what is larger
// belongs in a volume or bind mount.
const maxContent = 1 << 20

// files are a service's secrets and configs.
func (b *builder) files(s *project.Service) []engine.FileMount {
	var out []engine.FileMount
	for i, use := range s.Secrets {
		key := "services." + s.Name + ".secrets." + strconv.Itoa(i)
		if m, ok := b.file("secret", key, use, b.p.Secrets[use.Source]); ok {
			out = append(out, m)
		}
	}
	for i, use := range s.Configs {
		key := "services." + s.Name + ".configs." + strconv.Itoa(i)
		if m, ok := b.file("config", key, use, b.p.Configs[use.Source]); ok {
			out = append(out, m)
		}
	}
	return out
}

func (b *builder) file(kind, key string, use project.FileUse, f *project.File) (engine.FileMount, bool) {
	if f == nil {
		return engine.FileMount{}, false
	}
	if f.Driver != "" || f.TemplateDriver != "" {
		b.wrong(kind+"s."+f.Key, "use file: or environment: instead", "drivers of secrets and configs belong to Swarm, and davit has none")
		return engine.FileMount{}, false
	}
	m := engine.FileMount{Kind: kind, Name: use.Source, Target: target(kind, use)}
	m.UID = b.number(key+".uid", use.UID)
	m.GID = b.number(key+".gid", use.GID)
	if use.Mode != nil {
		m.Mode = uint32(*use.Mode)
	}
	if f.External {
		name := f.Name
		if name == "" {
			name = f.Key
		}
		m.Key = "external." + kind + "." + name
		return m, true
	}
	content, ok := b.content(kind, f)
	if !ok {
		return m, false
	}
	m.Digest = b.digest(kind, use.Source, content)
	m.Key = b.p.Name + "." + kind + "." + use.Source + "." + m.Digest[:16]
	b.out.Contents[m.Key] = content
	return m, true
}

// content is what a secret or config holds.
func (b *builder) content(kind string, f *project.File) ([]byte, bool) {
	key := kind + "s." + f.Key
	switch {
	case f.File != "":
		content, err := b.o.ReadFile(f.File)
		if err != nil {
			b.wrong(key+".file", "make that file, or correct the path", "%s", reason(err))
			return nil, false
		}
		if len(content) > maxContent {
			b.wrong(key+".file", "mount it under volumes instead", "%s has %d KiB, the most is %d", f.File, len(content)>>10, maxContent>>10)
			return nil, false
		}
		return content, true
	case f.Environment != "":
		v, set := b.p.Environment[f.Environment]
		if !set {
			b.wrong(key+".environment", "set the variable before calling davit", "environment variable %q is not set", f.Environment)
		}
		return []byte(v), set
	}
	return []byte(f.Content), true
}

func reason(err error) string {
	if pe, ok := err.(*os.PathError); ok {
		return pe.Path + ": " + pe.Err.Error()
	}
	return err.Error()
}

func (b *builder) digest(kind, name string, content []byte) string {
	mac := hmac.New(sha256.New, append([]byte(b.p.Name+"\x00"+kind+"\x00"+name+"\x00"), b.o.Key...))
	mac.Write(content)
	return hex.EncodeToString(mac.Sum(nil))
}

func (b *builder) number(key, s string) int {
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		b.wrong(key, "write the number", "%q is not a numeric id", s)
	}
	return n
}

// target is where a secret or config appears: secrets below /run/secrets,
// configs at the root, unless an absolute path is given.
func target(kind string, use project.FileUse) string {
	name := use.Target
	if name == "" {
		name = use.Source
	}
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	if kind == "secret" {
		return path.Join("/run/secrets", name)
	}
	return path.Join("/", name)
}
