"""Plots of one tensor: one file a plot, one line in `PLOTS`.

A plot says how well it suits a tensor (`score`), what it needs from the numbers pool (`request`), and draws the answer.
It never sees a tensor: a worker reduces it to what fits on the screen.
"""

from __future__ import annotations

from sdviewer.gui.plots.heads import HeadsPlot
from sdviewer.gui.plots.heatmap import HeatmapPlot
from sdviewer.gui.plots.histogram import HistogramPlot
from sdviewer.gui.plots.kernels import KernelsPlot
from sdviewer.gui.plots.line import LinePlot
from sdviewer.gui.plots.plot import Plot
from sdviewer.gui.plots.quantiles import QuantilesPlot
from sdviewer.gui.plots.rows import RowsPlot
from sdviewer.gui.plots.scalar import ScalarPlot
from sdviewer.gui.plots.spectrum import SpectrumPlot
from sdviewer.gui.plots.truth import TruthPlot
from sdviewer.gui.plots.values import ValuesPlot

PLOTS: tuple[type[Plot], ...] = (
    HistogramPlot,
    HeatmapPlot,
    LinePlot,
    ValuesPlot,
    SpectrumPlot,
    RowsPlot,
    QuantilesPlot,
    KernelsPlot,
    HeadsPlot,
    TruthPlot,
    ScalarPlot,
)
