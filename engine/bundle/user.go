package bundle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// Bounds on what is read of an image's passwd and group, in bytes: the files
// are an attacker's (CVE-2026-47262).
const (
	maxLine = 1 << 20
	maxFile = 16 << 20
	maxID   = 1<<31 - 1
)

// A User is who a process runs as, looked up in the container's own files.
type User struct {
	UID, GID int
	Groups   []int  // supplementary groups, the primary one included
	Home     string // of passwd; "/" when it has no such user
}

// LookupUser resolves user[:group] and further groups against the passwd and
// group of the file system below root. A numeric word is always a number,
// between 0 and 2³¹−1, and never looked up as a name (CVE-2024-40635); an
// empty spec is uid 0. The files are read only if they are regular, up to
// 16 MiB, and symbolic links in them resolve inside root. A nil root has
// neither file.
func LookupUser(root *os.File, spec string, add []string) (User, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	u := User{Home: "/"}
	uid, numeric, err := number(name)
	if err != nil {
		return u, fmt.Errorf("user %q: %w", spec, err)
	}
	login, found, err := findUser(root, &u, name, uid, numeric || name == "")
	if err != nil {
		return u, fmt.Errorf("user %q: %w", spec, err)
	}
	switch {
	case found:
	case numeric || name == "":
		u.UID = uid
	default:
		return u, fmt.Errorf("user %q: no such user in the image's /etc/passwd", name)
	}
	if !found {
		login = ""
	}
	wanted := add
	if hasGroup && group != "" {
		wanted = append([]string{group}, add...)
		login = "" // an explicit group stands alone, as with docker
	}
	ids, member, err := findGroups(root, wanted, login)
	if err != nil {
		return u, err
	}
	if hasGroup && group != "" {
		u.GID, ids = ids[0], ids[1:]
	}
	u.Groups = unique(append(append([]int{u.GID}, member...), ids...))
	return u, nil
}

// number reads a word made of digits alone; numeric is false for a name.
func number(word string) (id int, numeric bool, err error) {
	if word == "" || strings.Trim(word, "0123456789") != "" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil || n > maxID {
		return 0, true, fmt.Errorf("an id lies between 0 and %d", maxID)
	}
	return int(n), true, nil
}

// findUser fills u from the passwd entry for a name or, byID, for a uid.
func findUser(root *os.File, u *User, name string, uid int, byID bool) (login string, found bool, err error) {
	err = scan(root, "etc/passwd", func(f []string) bool {
		if len(f) < 6 {
			return true
		}
		id, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err1 != nil || err2 != nil || id < 0 || id > maxID || gid < 0 || gid > maxID {
			return true
		}
		if byID && id != uid || !byID && f[0] != name {
			return true
		}
		u.UID, u.GID, login, found = id, gid, f[0], true
		if f[5] != "" {
			u.Home = f[5]
		}
		return false
	})
	return login, found, err
}

// findGroups resolves every wanted group, in order, and finds those that list
// login as a member.
func findGroups(root *os.File, wanted []string, login string) (ids, member []int, err error) {
	ids = make([]int, len(wanted))
	missing := map[string][]int{}
	for i, w := range wanted {
		id, numeric, err := number(w)
		if err != nil {
			return nil, nil, fmt.Errorf("group %q: %w", w, err)
		}
		if numeric {
			ids[i] = id
		} else {
			missing[w] = append(missing[w], i)
		}
	}
	if len(missing) > 0 || login != "" {
		err = scan(root, "etc/group", func(f []string) bool {
			if len(f) < 3 {
				return true
			}
			id, err := strconv.Atoi(f[2])
			if err != nil || id < 0 || id > maxID {
				return true
			}
			for _, i := range missing[f[0]] {
				ids[i] = id
			}
			delete(missing, f[0])
			if login != "" && len(f) > 3 && slices.Contains(strings.Split(f[3], ","), login) {
				member = append(member, id)
			}
			return true
		})
	}
	for name := range missing {
		return nil, nil, fmt.Errorf("group %q: no such group in the image's /etc/group", name)
	}
	return ids, member, err
}

// scan calls each with the fields of every line of a file of the container,
// until it returns false. A file that is not there has no lines.
func scan(root *os.File, path string, each func([]string) bool) error {
	f, err := openRegular(root, path)
	if f == nil || err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(io.LimitReader(f, maxFile))
	s.Buffer(make([]byte, 0, 4096), maxLine)
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if !each(strings.Split(line, ":")) {
			return nil
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("read the image's /%s: %w", path, err)
	}
	return nil
}

// openRegular opens a file inside root, following links inside it only, and
// looks what it is before it opens it for reading: a FIFO would block.
func openRegular(root *os.File, path string) (*os.File, error) {
	if root == nil {
		return nil, nil
	}
	h, err := pathrs.OpenatInRoot(root, path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the image's /%s: %w", path, err)
	}
	defer h.Close()
	st, err := h.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the image's /%s: %w", path, err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("the image's /%s is not a regular file", path)
	}
	f, err := pathrs.Reopen(h, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, fmt.Errorf("open the image's /%s: %w", path, err)
	}
	return f, nil
}

func unique(ids []int) []int {
	var out []int
	for _, id := range ids {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}
