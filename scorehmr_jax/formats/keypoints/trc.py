"""OpenSim's .trc: markers in 3D by name, of Pose2Sim, OpenCap and motion capture systems."""

import numpy as np

from scorehmr_jax.formats.keypoints.result import Frame, Person

_METRES = {"m": 1.0, "mm": 0.001, "cm": 0.01}


def is_trc(text: str) -> bool:
    """Tells whether a text file is a .trc."""
    return text.lstrip().startswith("PathFileType")


def frames(text: str, where: str) -> tuple[list[Frame], list[str]]:
    """Reads the frames and the markers' names.

    Points are in metres, in the file's own axes: those of a laboratory, usually y up. A marker that
    a frame lacks has confidence 0, any other 1.

    Args:
        text: the file's content, for which `is_trc` holds.
        where: begins messages.
    Raises:
        ValueError: if the header is not that of a .trc, or a row has other columns.
    """
    lines = text.lstrip().splitlines()
    if len(lines) < 5:
        raise ValueError(f"{where}: ends within its header; expected a .trc")
    header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=False))
    units = header.get("Units", "").strip()
    if units not in _METRES:
        raise ValueError(f"{where}: Units: expected m, cm or mm, found {units!r}")
    names = [name.strip() for name in lines[3].split("\t")[2:] if name.strip()]
    found = []
    for number, line in enumerate(lines[5:], 6):
        cells = line.rstrip("\r\n").split("\t")
        if not any(cell.strip() for cell in cells):
            continue
        cells += [""] * (2 + 3 * len(names) - len(cells))
        try:
            frame = int(float(cells[0]))
            numbers = [float(c) if c.strip() else np.nan for c in cells[2 : 2 + 3 * len(names)]]
        except (ValueError, OverflowError):
            raise ValueError(
                f"{where}: line {number}: expected numbers, found {line[:40]!r}"
            ) from None
        points = np.array(numbers).reshape(-1, 3) * _METRES[units]
        seen = np.isfinite(points).all(-1).astype(float)
        none = np.zeros((len(names), 2)), np.zeros(len(names))
        people = [Person(*none, points_3d=points, confidence_3d=seen)] if seen.any() else []
        found.append(Frame(frame, "", people))
    return found, names
