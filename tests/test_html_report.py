"""The report of the demo: one file that needs no other, and the same table for a terminal."""

import base64
import io
import re

import numpy as np
import pytest

from scorehmr_jax.output.html_report import Figure, Row, format_table, save_report

pytest.importorskip("matplotlib")

METRICS = {"MPJPE": "mm", "acceleration": "mm/frame²", "time": "s per frame"}


def report_rows():
    before = {"MPJPE": 80.0, "acceleration": 20.0}
    return [
        Row("single frames", before, {"MPJPE": 60.0, "acceleration": 25.0, "time": 0.0123}),
        Row("four views", {"MPJPE": 80.0, "acceleration": np.nan}, {"MPJPE": 80.0}),
    ]


def test_report_is_one_file_that_needs_no_other(tmp_path):
    pytest.importorskip("jinja2")
    from matplotlib.image import imread

    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, :15] = 200
    figures = [Figure("walk", "a caption", picture)]
    path = tmp_path / "report.html"
    save_report(path, "A < B", "lead", METRICS, report_rows(), figures, ["a note"])
    html = path.read_text("utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert "A &lt; B" in html and "a caption" in html and "a note" in html
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)
    (source,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    shown = imread(io.BytesIO(base64.b64decode(source)))[..., :3]
    np.testing.assert_array_equal(np.round(255 * shown), picture)
    # Less is better: 60 after 80 is good, 25 after 20 is not, 80 after 80 is neither.
    assert re.search(r'class="change better">−25%', html)
    assert re.search(r'class="change worse">\+25%', html)
    assert re.search(r'class="change ">\+0%', html)


def test_table_for_the_terminal():
    header, rule, first, second = format_table(METRICS, report_rows()).splitlines()
    assert len(header) == len(rule) == len(first) == len(second)
    assert "MPJPE (mm)" in header and "acceleration (mm/frame²)" in header
    assert "80.0 -> 60.0" in first and "0.012" in first
    assert "0.010" in format_table(METRICS, [Row("a", {}, {"time": 0.00999})])
    assert second.split() == ["four", "views", "80.0", "->", "80.0", "-", "-"]
