package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// A prompt asks for a line at the terminal, key by key, since the terminal
// waits for no newline while keys are heard.
type prompt struct {
	out    io.Writer
	typed  []byte
	words  []string // that Tab completes
	answer func(string)
}

// newPrompt asks.
func newPrompt(out io.Writer, question string, words []string, answer func(string)) *prompt {
	fmt.Fprint(out, question)
	return &prompt{out: out, words: words, answer: answer}
}

// key takes one key, and says whether that was the last one. Escape gives up.
func (p *prompt) key(b byte) (over bool) {
	switch {
	case b == '\r' || b == '\n':
		fmt.Fprintln(p.out)
		p.answer(strings.TrimSpace(string(p.typed)))
		return true
	case b == 27:
		fmt.Fprintln(p.out)
		return true
	case b == 127 || b == '\b':
		p.rub(1)
	case b == 'U'-'@':
		p.rub(len(p.typed))
	case b == '\t':
		p.complete()
	case b >= ' ':
		p.typed = append(p.typed, b)
		_, _ = p.out.Write([]byte{b})
	}
	return false
}

// rub takes the last n characters back, on the terminal too.
func (p *prompt) rub(n int) {
	for ; n > 0 && len(p.typed) > 0; n-- {
		_, size := utf8.DecodeLastRune(p.typed)
		p.typed = p.typed[:len(p.typed)-size]
		fmt.Fprint(p.out, "\b \b")
	}
}

// complete adds what is missing of the one word that what was typed begins.
func (p *prompt) complete() {
	var fits []string
	for _, w := range p.words {
		if strings.HasPrefix(w, string(p.typed)) {
			fits = append(fits, w)
		}
	}
	if len(fits) == 1 || slices.Contains(fits, string(p.typed)) {
		for _, b := range []byte(fits[0][len(p.typed):]) {
			p.key(b)
		}
	}
}
