"""The text of the open benchmark's page and the points of its picture, from rows of its file."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.scenes import QUICK, STRENGTHS
from scorehmr_jax.baselines.methods import ESTIMATE
from scorehmr_jax.evaluation.tables.write import markdown_lines

PICTURE = "images/open_benchmark.png"
_TITLES = {
    "keypoints": "Single images",
    "video": "Videos",
    "multiview": "Four views",
}
# Figures after those of PA-MPJPE: title, digits.
_OTHERS = {
    "mpjpe": ("MPJPE", 1),
    "pelvis": ("pelvis", 0),
    "pixels": ("2D px", 1),
    "accel": ("accel", 1),
    "slide": ("sliding", 1),
}


def page_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Writes the page that shows rows, in Markdown."""
    about = rows[0]
    command = f"python -m benchmarks.open_page FILE.json --data DIR --split {about['split']}"
    if about["samples"] == QUICK.frames:
        command += " --quick"
    parts = [
        _HEAD.format(
            **about, command=command, picture=PICTURE, clips=_CLIPS[about["split"]], run=_run(rows)
        )
    ]
    for setting in dict.fromkeys(row["setting"] for row in rows):
        of_setting = [row for row in rows if row["setting"] == setting]
        parts.append(f"## {_TITLES[setting]}\n\n{_EVIDENCE[setting]}\n\n{_ahead(of_setting)}")
        for strength in sorted({row["strength"] for row in of_setting}, key=STRENGTHS.index):
            told = [row for row in of_setting if row["strength"] == strength]
            parts.append(f"### {strength.capitalize()} network\n\n{_table(told)}")
    return "\n\n".join(parts) + "\n"


def panels_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Lists PA-MPJPE with its interval by setting, method and strength, as a picture shows it."""
    panels: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        methods = panels.setdefault(_TITLES[row["setting"]], {})
        methods.setdefault(row["title"], {})[row["strength"]] = tuple(row["re"])
    return panels


def _run(rows: Sequence[Mapping[str, Any]]) -> str:
    """Where and with which code the rows were made: in one sentence, or one for each setting."""
    told: dict[str, list[str]] = {}
    for setting in dict.fromkeys(row["setting"] for row in rows):
        # One call makes the rows of a setting.
        row = next(row for row in rows if row["setting"] == setting)
        where = "on {cores} cores of {machine} (load {load:.1f}), commit {commit}".format(**row)
        told.setdefault(where, []).append(_TITLES[setting])
    if len(told) == 1:
        return f"They were run {next(iter(told))}."
    runs = "; ".join(f"{' and '.join(titles)} {where}" for where, titles in told.items())
    commits = {row["commit"] for row in rows}
    warning = " Commits differ: what a method does may differ between settings."
    return f"Each setting was run by itself: {runs}.{warning if len(commits) > 1 else ''}"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The methods at one strength."""
    names = [name for name in _OTHERS if any(row.get(name) is not None for row in rows)]
    titles = [_OTHERS[name][0] for name in names]
    columns = ["PA-MPJPE [95%]", "against default [95%]", "worse", *titles]
    grid = [["method", *columns, "ms/frame"]]
    least = min(row["re"][0] for row in rows)
    for row in rows:
        against, seconds = row["against_default"], row["seconds"]
        error = _interval(row["re"])
        grid.append(
            [
                row["title"],
                f"**{error}**" if row["re"][0] == least else error,
                "-" if against is None else _interval(against, "+"),
                f"{100 * row['worse'][0]:.1f}%",
                *("-" if row.get(n) is None else f"{row[n][0]:.{_OTHERS[n][1]}f}" for n in names),
                "-" if seconds is None or row["method"] == ESTIMATE else f"{1000 * seconds:.2f}",
            ]
        )
    return "\n".join(markdown_lines(grid, left=1))


def _ahead(rows: Sequence[Mapping[str, Any]]) -> str:
    """Who has less PA-MPJPE than the default mode, with the whole interval below 0."""
    ahead: dict[str, list[str]] = {}
    for row in rows:
        against = row["against_default"]
        if against is not None and against[2] is not None and against[2] < 0:
            ahead.setdefault(row["title"], []).append(row["strength"])
    if not ahead:
        return "No method has less PA-MPJPE than the default mode with its whole interval below 0."
    told = "; ".join(f"{title} ({', '.join(strengths)})" for title, strengths in ahead.items())
    return f"Less PA-MPJPE than the default mode, the whole interval below 0: {told}."


def _interval(ends: Sequence[float | None], sign: str = "") -> str:
    mean, *around = (None if end is None else f"{end:{sign}.1f}" for end in ends)
    return f"{mean}" if None in around else f"{mean} [{', '.join(map(str, around))}]"


_EVIDENCE = {
    "keypoints": "Every method has the first estimate of one image and its 2D keypoints.",
    "video": """\
Every method but the filters has the keypoints of all frames, and poses that are to be smooth;
SMPLify takes frames one by one. `accel` is the acceleration error, mm/frame^2 at 30 frames per
second; `sliding` how far points of the feet move in a frame in which the true ones stand, mm.""",
    "multiview": """\
Four cameras see a person, nobody knows from where. As in the paper the released loop and the
baselines have the agreement of the views alone; `with keypoints` they have the keypoints of all
views too, as the default mode does.""",
}

_CLIPS = {
    "val": "What a method weighs was chosen on these clips, which flatters all alike.",
    "test": "What a method weighs was chosen on other clips.",
    "heldout": "What a method weighs was chosen on other clips, and nothing was trained on these.",
}

_HEAD = """\
# The open benchmark

What each method makes of the same first estimates: real motion, a body that needs no licence,
simulated networks of three strengths and simulated detections, so that anyone can repeat it. Split
`{split}`, {samples} frames in each cell. {clips}
This page and its picture are written by

    {command}

with DIR as for [training.md](training.md); try things with `--split val`. How a method works:
[baselines.md](baselines.md), [default_mode.md](default_mode.md); how errors are measured:
[evaluation.md](evaluation.md). Simulated networks err in ways that a method can have learnt from
such simulations, as the flow has and `open-cond`; on real video the order is another
([RESULTS.md](../benchmarks/RESULTS.md)).

![PA-MPJPE of every method at three strengths, by setting]({picture})

Means over SMPL's 24 joints, mm; in brackets 95% intervals, drawn over clips. `against default`:
this method less the default mode on the same samples; below 0 this one is better. `worse`: the
share of frames whose PA-MPJPE rose by more than 2 mm. MPJPE puts pelvis on pelvis; `pelvis` is its
distance from where it is. `2D px`: from the true keypoints in the image. `ms/frame`: once compiled,
in batches of {batch}: to be taken roughly. {run}"""
