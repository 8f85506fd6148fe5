"""Builds training sets from files, for `scorehmr build-data`."""

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from body_model.folders import building, folder_exists, put_folder
from body_model.paths import local_path, make_folder
from scorehmr_jax.datasets.amass import Amass, holds_poses
from scorehmr_jax.datasets.image_sets import FILES, ImageFiles, ImageSet
from scorehmr_jax.datasets.mixtures import MIXTURES
from scorehmr_jax.datasets.npz_folders import npz_files
from scorehmr_jax.datasets.own_sets import OwnSet
from scorehmr_jax.datasets.samples import SampleReader
from scorehmr_jax.formats.backbones import BACKBONES

NAMES = (*FILES, "amass", "own", *MIXTURES)


@dataclass(frozen=True)
class Given:
    """Files and choices of a user; None takes those of the released layout."""

    fits: str | None = None  # mosh, eft or spin
    backbone: str | None = None  # one of BACKBONES, or none
    annotations: Path | None = None
    features: Path | None = None
    statistics: Path | None = None
    estimates: Path | None = None  # makes a set that has a network's estimates too
    name: str | None = None  # of an own set
    fps: float | None = None  # frames per second that are taken from AMASS; 10
    clip_fps: float | None = None  # frame rate of AMASS's clips that hold none
    drop_bad: bool = False  # leave out samples with NaN, which are an error otherwise
    accept_statistics: bool = False  # take those that seem to be of other features

    def __post_init__(self) -> None:
        for each in fields(self):
            if isinstance(getattr(self, each.name), Path):
                object.__setattr__(self, each.name, local_path(getattr(self, each.name)))


_OPTIONS = {"statistics": "stats", "name": "set-name"}  # where they differ from the fields of Given
# Options that each set has a use for.
_TAKEN = {
    "own": ("name", "statistics", "accept_statistics", "drop_bad"),
    "amass": ("fps", "clip_fps"),
    **dict.fromkeys(
        FILES,
        (
            "fits",
            "backbone",
            "annotations",
            "features",
            "statistics",
            "estimates",
            "accept_statistics",
            "drop_bad",
        ),
    ),
}
_LAYOUT = ("datasets", "stats", "cache")  # folders of the released layout
_NAMED = 10  # files that a description names
_OF_FEATURES = ("features", "statistics", "accept_statistics")


@dataclass(frozen=True)
class Plan:
    """A set that is not built yet."""

    base: str  # the data set's name
    config: str | None
    reader: SampleReader
    final: Path  # the folder that it becomes


def expand(names: Sequence[str]) -> list[str]:
    """Replaces each mixture among names by its sets."""
    return [one for name in names for one in MIXTURES.get(name, (name,))]


def plan(name: str, root: str | Path, out: str | Path, given: Given = Given()) -> Plan:
    """Checks names and options of a set, without reading its files.

    Args: as for `build`.
    Returns:
        The reader of its files, and its future folder.
    Raises:
        ValueError: if there is no such set, or an option would go unused.
        ImportError: if TFDS or ArrayRecord is not installed.
    """
    base, config, reader = _reader(name, local_path(root), given)
    folder = local_path(out) / (given.name or base) / (config or "")
    return Plan(base, config, reader, folder / "1.0.0")


def build(
    name: str,
    root: str | Path,
    out: str | Path,
    given: Given = Given(),
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Builds one training set; the whole set or nothing.

    Args:
        name: of NAMES but no mixture, or such a name with a config: h36m/spin_pare.
        root: the released code's folder `data`; AMASS's or your own folder of .npz.
        out: where sets go; this one into NAME/CONFIG/VERSION.
        given: files and choices that differ from the released layout.
        overwrite: replace a set that is there, once the new one is whole.
        quiet: show no progress bar.
    Returns:
        The set's folder.
    Raises:
        ValueError: if something is wrong, naming file and key, the expected and the found.
        ImportError: if TFDS or ArrayRecord is not installed.
    """
    from scorehmr_jax.datasets.builders import BUILDERS

    new = plan(name, root, out, given)
    if folder_exists(new.final) and not overwrite:
        raise ValueError(
            f"{new.final}: there is a set already; choose another --out, or --overwrite"
        )
    out = make_folder(out)
    options: dict[str, Any] = {"config": new.config} if new.config else {}
    with building(out) as aside, _bar(new.reader, name, quiet) as bar:
        builder = BUILDERS[new.base](
            reader=new.reader, progress=bar.update, data_dir=str(aside), **options
        )
        # TFDS announces a download.
        with redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
        put_folder(Path(builder.data_path), new.final)
    return new.final


def _reader(name: str, root: Path, given: Given) -> tuple[str, str | None, SampleReader]:
    """Finds the builder's name, its config and the reader of a set's files."""
    base, _, config = name.partition("/")
    if base not in _TAKEN:
        raise ValueError(f"no data set {base!r}; there are: {', '.join(NAMES)}")
    if config and base not in FILES:
        raise ValueError(f"{name}: {base} comes in one kind only; expected {base}")
    _refuse(name, given, [field.name for field in fields(Given) if field.name not in _TAKEN[base]])
    if given.name is not None and not re.fullmatch(r"\w[\w.-]*", given.name):
        raise ValueError(
            f"--set-name {given.name}: expected the name of one folder, of letters, digits, _ - ."
        )
    for option, rate in (("--fps", given.fps), ("--clip-fps", given.clip_fps)):
        if rate is not None and not 0 < rate < float("inf"):
            raise ValueError(f"{option} {rate}: expected frames per second, above 0")
    if not root.exists():
        raise ValueError(f"{root}: no such folder; --data-root is where the data set's files are")
    if base == "own":
        own = OwnSet(root, given.statistics, given.drop_bad, given.accept_statistics)
        return base, None, own
    if base == "amass":
        return base, None, Amass(_amass_source(root), given.fps or 10.0, given.clip_fps)
    fits, _, backbone = config.partition("_")
    _refuse(name, given, ["fits"] * bool(fits) + ["backbone"] * bool(backbone))
    fits = fits or given.fits or next(iter(FILES[base]))
    # Human3.6M has MoSh fits where the other sets have EFT fits.
    fits = "mosh" if (base, fits) == ("h36m", "eft") else fits
    # The names of configs have _ for -.
    known_backbones = {known.replace("-", "_"): known for known in BACKBONES}
    backbone = known_backbones.get(backbone, backbone) or given.backbone or "pare"
    from scorehmr_jax.datasets.builders import BUILDERS

    config = f"{fits}_{backbone}".replace("-", "_")
    known = [c.name for c in BUILDERS[base].BUILDER_CONFIGS]
    if config not in known:
        raise ValueError(f"{base}: no config {config!r}; there are: {', '.join(known)}")
    if backbone == "none":
        _refuse(f"{base}/{config}", given, _OF_FEATURES)
    files = ImageFiles.released(root, base, fits, backbone)
    changes = {k: getattr(given, k) for k in ("annotations", "features", "statistics", "estimates")}
    files = replace(files, **{k: v for k, v in changes.items() if v is not None})
    return base, config, ImageSet(files, given.drop_bad, given.accept_statistics)


def _amass_source(root: Path) -> Path:
    """Finds AMASS: in one file, where the released layout has it, or in a folder of clips.

    Raises:
        ValueError: if both are there.
    """
    packed = root / "datasets/amass.npz"
    if not packed.is_file():
        return root
    others = (path for path in npz_files(root) if path.relative_to(root).parts[0] not in _LAYOUT)
    clip = next((path for path in others if holds_poses(path)), None)
    if clip is not None:
        raise ValueError(
            f"{root}: expected clips or {packed}, found both, such as {clip}; give the one that is "
            "meant as --data-root, or move the other away"
        )
    return packed


def _refuse(name: str, given: Given, unused: Sequence[str]) -> None:
    """Raises ValueError if an option is given that this set has no use for."""
    options = [
        f"--{_OPTIONS.get(key, key).replace('_', '-')}"
        for key in unused
        if getattr(given, key) is not None and getattr(given, key) is not False
    ]
    if options:
        raise ValueError(f"{', '.join(options)}: {name} has no use for that; leave it out")


def _bar(reader: SampleReader, name: str, quiet: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=reader.total, desc=name, unit=" samples", disable=quiet)


def describe(folder: str | Path) -> str:
    """Says in a few lines what a set holds, and what was dropped when it was built.

    Args:
        folder: of the set.
    Raises:
        ValueError: if there is no whole set.
    """
    from scorehmr_jax.datasets.records import RecordSet

    records = RecordSet.open(folder)
    notes = records.notes
    columns = ", ".join(f"{name} {width}" for name, width in records.widths.items())
    lines = [
        f"{folder}: {len(records):,} of {notes['read']:,} samples ({columns}), "
        f"{len(records.shards)} shards, {records.num_bytes / 2**20:,.1f} MiB"
    ]
    lines += [f"  dropped {count:,}: {why}" for why, count in notes["dropped"].items()]
    left_out = notes.get("left_out", {})
    lines += [f"  left out {why}" for why in [*left_out.values()][:_NAMED]]
    if len(left_out) > _NAMED:
        lines.append(f"  and {len(left_out) - _NAMED} more files; metadata.json names them all")
    if "assumed" in notes:
        lines.append(f"  taken without knowing: {notes['assumed']}")
    if notes.get("without_shape", 0):
        lines.append(f"  without a shape fit, which is zeros there: {notes['without_shape']:,}")
    return "\n".join(lines)
