"""The common look of the figures."""

from __future__ import annotations

from itertools import pairwise

import pytest


@pytest.mark.parametrize("wide", [1, 2, 4])
def test_long_titles_do_not_meet(wide: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from slnlab.figures.style import grid, style, wrapped

    title = "SLN-MO-LC (network) correction.weighting=inverse, optimizer.lr=0.02\ncifar10 (unverified files), human 0.4"
    with style():
        figure, panels = grid(wide, "accuracy")
        for panel in panels:
            panel.set_title(wrapped(panel, title))
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        boxes = [panel.title.get_window_extent(renderer) for panel in panels]
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))
    assert boxes[0].x0 >= 0
    assert boxes[-1].x1 <= figure.bbox.x1
    assert "human 0.4" in panels[0].get_title().split("\n")[-1]  # the second line of the title begins its own line
