//go:build cgo

package pid1

import "C" // and so pid1.c
