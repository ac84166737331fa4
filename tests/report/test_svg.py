from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from janus.report import svg


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 1100, [0, 500, 1000]),
        (-0.1, 0.35, [-0.1, 0, 0.1, 0.2, 0.3]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float]) -> None:
    assert svg.ticks(low, high) == pytest.approx(expected)


def test_smoothing_starts_at_the_first_value_and_ends_near_a_constant() -> None:
    smooth = svg.smooth([5.0] + [1.0] * 100, weight=0.9)
    assert smooth[0] == pytest.approx(5.0)
    assert smooth[1] == pytest.approx((0.9 * 0.1 * 5 + 0.1 * 1) / (0.9 * 0.1 + 0.1))
    assert smooth[-1] == pytest.approx(1.0, abs=1e-3)


def bars(chart: str) -> list[tuple[str, int]]:
    """(series, count) of every bar."""
    return [(name, int(count)) for name, count in re.findall(r"<title>([^<]*): (\d+)</title>", chart)]


def test_every_value_is_in_one_bar_of_its_series() -> None:
    good, bad = [0.1 * index for index in range(11)], [0.0, 1.0, 1.0]
    chart = svg.histogram("scores", {"good": good, "bad": bad}, x_label="score", bins=10, marks=[(0.5, "here")])
    counted = bars(chart)
    assert sum(count for name, count in counted if name == "good") == 11
    assert [count for name, count in counted if name == "bad"] == [1, 2]  # the greatest value is in the last bar
    assert ">here</text>" in chart


def test_charts_are_well_formed_also_without_data_and_with_odd_names() -> None:
    charts = [
        svg.line_chart("a < b", {"x & y": [(0, 1.0), (10, float("nan")), (20, 0.5)]}, x_label="step"),
        svg.line_chart("empty", {}, x_label="step"),
        svg.histogram("empty", {"none": []}, x_label="score"),
        svg.histogram("one value", {"one": [0.3]}, x_label="score"),
    ]
    for chart in charts:
        root = ET.fromstring(chart)
        assert root.tag == "svg"
        assert "nan" not in chart
        standalone = svg.standalone(chart)
        assert ET.fromstring(standalone).tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in standalone


def test_a_line_goes_from_corner_to_corner() -> None:
    chart = svg.line_chart("l", {"loss": [(0, 0.0), (100, 2.0)]}, x_label="step")
    points = re.findall(r'points="([^"]*)"', chart)[0].split()
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in points)
    assert (x0, y0) == (svg.LEFT, svg.HEIGHT - svg.BOTTOM)
    assert x1 == svg.WIDTH - svg.RIGHT
    assert y1 == pytest.approx(svg.TOP + (svg.HEIGHT - svg.BOTTOM - svg.TOP) * (1 - 1 / 1.05), abs=0.1)
