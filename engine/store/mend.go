package store

import (
	"encoding/json"
	"errors"
)

// Mend looks at the record at path: damage says what is wrong with it, nil
// when nothing is or there is none. With mend, a damaged record whose
// generation before is good is replaced by that; mended tells whether that is
// or, without mend, could be.
func Mend(path string, mend bool) (damage error, mended bool) {
	var body json.RawMessage
	damage = read(path, &body)
	if damage == nil || errors.Is(damage, ErrNotFound) {
		return nil, false
	}
	if read(path+"~", &body) != nil {
		return damage, false
	}
	if !mend {
		return damage, true
	}
	old, err := readAll(path + "~")
	if err == nil {
		err = writeFile(path, old, 0o600, true)
	}
	return damage, err == nil
}
