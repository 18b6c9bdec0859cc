package attach

func (h *Host) letThrough(bridge string) error  { return h.table.LetThrough(bridge) }
func (h *Host) stopLetting(bridge string) error { return h.table.StopLetting(bridge) }
