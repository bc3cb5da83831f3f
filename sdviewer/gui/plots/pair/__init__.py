"""Plots of a pair of tensors: one file a plot, one line in `PAIR_PLOTS`.

The page shows the `main` one that suits a pair best, and all others that suit it below.
"""

from __future__ import annotations

from sdviewer.gui.plots.pair.difference import DifferencePlot
from sdviewer.gui.plots.pair.histograms import HistogramsPlot
from sdviewer.gui.plots.pair.lines import LinesPlot
from sdviewer.gui.plots.pair.pair_plot import PairPlot
from sdviewer.gui.plots.pair.scalars import ScalarsPlot
from sdviewer.gui.plots.pair.scatter import ScatterPlot
from sdviewer.gui.plots.pair.sides import SidesPlot

PAIR_PLOTS: tuple[type[PairPlot], ...] = (
    DifferencePlot,
    LinesPlot,
    SidesPlot,
    ScalarsPlot,
    HistogramsPlot,
    ScatterPlot,
)
