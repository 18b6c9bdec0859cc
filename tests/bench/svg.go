package main

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"
)

// The plot's measures, in pixels.
const (
	plotWidth, plotHeight   = 640, 400
	left, right, top, under = 70, 190, 40, 50
)

var inks = []string{"#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#57606a", "#0a7ea4"}

// svg draws the curve. Time runs upwards.
func (c curve) svg() []byte {
	minX, maxX, minY, maxY := c.bounds()
	at := func(p point) (x, y float64) {
		x = left + (plotWidth-left-right)*fraction(p.x, minX, maxX)
		y = plotHeight - under - (plotHeight-top-under)*fraction(float64(p.took), minY, maxY)
		return x, y
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#57606a">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#ffffff"/><text x="%d" y="22" font-size="15" fill="#24292f">%s</text>`+"\n", left, c.title)
	for v := minY; v <= maxY*1.01; v *= 10 {
		_, y := at(point{minX, time.Duration(v)})
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#d0d7de"/><text x="%d" y="%.1f" text-anchor="end">%v</text>`+"\n", left, y, plotWidth-right, left-6, y+4, time.Duration(v))
	}
	for v := minX; v <= maxX*1.01; v *= 10 {
		x, _ := at(point{v, time.Duration(minY)})
		fmt.Fprintf(&b, `<path d="M%.1f %dV%d" stroke="#d0d7de"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x, top, plotHeight-under, x, plotHeight-under+16, tick(v))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (left+plotWidth-right)/2, plotHeight-12, c.x)
	for i, s := range c.series {
		ink := inks[i%len(inks)]
		var path bytes.Buffer
		for k, p := range s.points {
			x, y := at(p)
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(k, 1)], x, y)
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s: %s %s, %v</title></circle>`+"\n", x, y, ink, s.name, tick(p.x), c.x, p.took)
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/><text x="%d" y="%d" fill="%s">%s</text>`+"\n", path.String(), ink, plotWidth-right+14, top+12+18*i, ink, s.name)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// bounds are the powers of ten around all points.
func (c curve) bounds() (minX, maxX, minY, maxY float64) {
	minX, minY = math.Inf(1), math.Inf(1)
	for _, s := range c.series {
		for _, p := range s.points {
			minX, maxX = min(minX, p.x), max(maxX, p.x)
			minY, maxY = min(minY, float64(p.took)), max(maxY, float64(p.took))
		}
	}
	down := func(v float64) float64 { return math.Pow(10, math.Floor(math.Log10(max(v, 1)))) }
	up := func(v float64) float64 { return math.Pow(10, math.Ceil(math.Log10(max(v, 1)))) }
	return down(minX), up(maxX), down(minY), up(maxY)
}

// fraction is where v lies between two bounds on a logarithmic axis.
func fraction(v, low, high float64) float64 {
	if high <= low {
		return 0
	}
	return (math.Log10(v) - math.Log10(low)) / (math.Log10(high) - math.Log10(low))
}

// tick writes a size as people do: 1k, 10k.
func tick(v float64) string {
	if v >= 1000 && math.Mod(v, 1000) == 0 {
		return strconv.FormatFloat(v/1000, 'f', -1, 64) + "k"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}
