package render

// A Detailer also shows how far an object is, until it is done.
type Detailer interface {
	// Detail shows text behind the object's word. Calls may come from several
	// goroutines.
	Detail(kind, name, text string)
}

// Detail takes the text in; the next frame shows it.
func (l *live) Detail(kind, name, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.index[kind+" "+name]; r != nil {
		r.detail = text
	}
}
