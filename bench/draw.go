package bench

import (
	"bytes"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

const (
	chartWidth  = 22 * vg.Centimeter
	chartHeight = 12 * vg.Centimeter
)

// The palette of Okabe and Ito, which the colour-blind can tell apart.
var palette = []color.RGBA{
	{0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff},
	{0xcc, 0x79, 0xa7, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff},
}

// draw draws the chart as "svg" or "png".
func (c *chart) draw(format string) ([]byte, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.title, c.x, c.y
	p.Title.Padding, p.Legend.Top, p.Legend.Left = vg.Points(8), true, true
	p.Add(plotter.NewGrid())
	if c.logX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, given(c.abscissae())
	}
	if c.logY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(decades)
	} else {
		p.Y.Min = 0
	}
	for i, s := range c.series {
		points := make(plotter.XYs, len(s.points))
		for n, pt := range s.points {
			points[n] = plotter.XY{X: pt.x, Y: pt.y}
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = palette[i%len(palette)], vg.Points(1.5)
		marks.Color, marks.Shape, marks.Radius = line.Color, draw.CircleGlyph{}, vg.Points(2.5)
		p.Add(line, marks)
		p.Legend.Add(s.name, line, marks)
	}
	if c.logY { // room for the legend
		p.Y.Min = math.Pow(10, math.Floor(math.Log10(p.Y.Min)))
		p.Y.Max = math.Pow(10, math.Ceil(math.Log10(p.Y.Max)+0.5))
	}
	w, err := p.WriterTo(chartWidth, chartHeight, format)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = w.WriteTo(&b)
	return b.Bytes(), err
}

// abscissae are the x values of all points, each once.
func (c *chart) abscissae() []float64 {
	var values []float64
	for _, s := range c.series {
		for _, p := range s.points {
			values = append(values, p.x)
		}
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// given marks the values themselves.
func given(values []float64) plot.Ticker {
	return plot.TickerFunc(func(_, _ float64) (ticks []plot.Tick) {
		for _, v := range values {
			ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', -1, 64)})
		}
		return ticks
	})
}

// decades marks powers of ten, with their numbers written out.
func decades(low, high float64) (ticks []plot.Tick) {
	for exponent := math.Floor(math.Log10(low)); exponent <= math.Ceil(math.Log10(high)); exponent++ {
		v := math.Pow(10, exponent)
		ticks = append(ticks, plot.Tick{Value: v, Label: number(v)})
		for m := 2; m < 10; m++ {
			ticks = append(ticks, plot.Tick{Value: v * float64(m)})
		}
	}
	return ticks
}

// WritePlots writes each plot as SVG and PNG to the directory.
func (r *Report) WritePlots(dir string) error {
	for _, c := range r.charts() {
		for _, format := range []string{"svg", "png"} {
			image, err := c.draw(format)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, c.name+"."+format), image, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}
