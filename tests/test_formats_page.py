"""The page of formats and conventions says what the code has."""

import math
import re
from pathlib import Path

import body_files
import numpy as np
import pytest
from keypoint_files import openpose_folder, person

from body_model.keypoint_sets import KEYPOINT_SETS, STAND_INS
from scorehmr_jax.formats.bodies.read import BODY_FORMATS
from scorehmr_jax.formats.conventions import BY_COUNT, read_keypoint_set
from scorehmr_jax.formats.keypoints.read import FORMATS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")


def millimetres(offset):
    return "unknown" if math.isnan(offset) else f"{offset:.0f}"


def sets_table():
    """A line for each set: its points' number, who writes it, what lies elsewhere than SMPL's."""
    for each in KEYPOINT_SETS.values():
        by_offset = {}
        for name, offset in each.offsets.items():
            plain = re.sub("^(left|right)_", "", name)
            by_offset.setdefault(millimetres(offset), {})[plain] = None
        off = "; ".join(f"{', '.join(names)}: {offset}" for offset, names in by_offset.items())
        told = "yes" if BY_COUNT.get(len(each)) == each.name else ""
        yield f"| `{each.name}` | {len(each)} | {told} | {each.source} | {off} |"


def orders_table():
    for each in KEYPOINT_SETS.values():
        if len(each) <= 33 and each.name != "smpl-24":
            yield f"| `{each.name}` | {', '.join(each.names)} |"


def stand_ins_table():
    for name, ways in STAND_INS.items():
        for parts, offset in ways:
            yield f"| `{name}` | {' and '.join(parts)} | {millimetres(offset)} |"


def formats_table():
    return (f"| `{each.name}` | {each.writers} |" for each in FORMATS.values())


def bodies_table():
    return (f"| `{each.name}` | {each.writers} |" for each in BODY_FORMATS.values())


def test_the_tables_of_the_page_are_those_of_the_code():
    for table in (sets_table, orders_table, stand_ins_table, formats_table, bodies_table):
        lines = "\n".join(table())
        assert lines in PAGE, f"docs/formats.md: {table.__name__}: expected\n{lines}"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.filterwarnings("ignore:.*bones run across the person")
def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    openpose_folder(tmp_path / "openpose_json", {0: [person(25)], 1: [person(25)]})
    (toml,) = blocks("toml")
    (tmp_path / "lab.toml").write_text(toml)
    assert read_keypoint_set("lab.toml").parts("pelvis") == ((2, 3), 30)
    names = {}
    estimates, reading, converting, cameras = blocks("python")
    body_files.wham(tmp_path / "wham_output.pkl", body_files.people())
    with pytest.warns(UserWarning, match="the image's diagonal"):
        exec(estimates, names)
    assert names["given"].camera.focal.shape == (2, 5, 2)
    exec(reading, names)
    assert names["keypoints"].xy.shape == (2, 25, 2)
    exec(converting, names)
    assert names["xy25"].shape == (10, 25, 2)
    (tmp_path / "Calib.toml").write_text(
        f"[a]\nname = 'a'\nmatrix = {(np.eye(3) * [900, 900, 1]).tolist()}\n"
    )
    exec(cameras, names)
    assert names["cameras"].names == ("a",)
