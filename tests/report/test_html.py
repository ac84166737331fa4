from __future__ import annotations

import re

from janus.report.html import Raw, join, page, section, stacked_bar, table, tag


def test_text_is_escaped_once_and_html_is_left_alone() -> None:
    assert tag("p", "a < b", tag("b", "&")) == "<p>a &lt; b<b>&amp;</b></p>"
    assert tag("p", "x", class_="c", title='"q"', style=None) == '<p class="c" title="&quot;q&quot;">x</p>'
    assert isinstance(join("a", Raw("<i>")), Raw)


def test_numeric_columns_are_set_apart() -> None:
    cells = table(["name", "n"], [["a", 1]], numeric=[1])
    assert '<td>a</td><td class="n">1</td>' in cells
    assert '<th>name</th><th class="n">n</th>' in cells


def test_a_bars_parts_make_up_the_whole() -> None:
    bar = stacked_bar([("kept", 3, "green"), ("none", 0, "red"), ("lost", 1, "orange")])
    assert re.findall(r"width:([\d.]+)%", bar) == ["75.00", "25.00"]


def test_a_page_names_no_other_file() -> None:
    html = page("t", section("h", "intro", "x"))
    assert html.startswith("<!doctype html>")
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "@import" not in html
    assert "url(" not in html
