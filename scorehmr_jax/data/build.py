"""Training sets from files: what `scorehmr build-data` does."""

import io
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scorehmr_jax.data.amass import Amass
from scorehmr_jax.data.image_sets import FILES, ImageFiles, ImageSet
from scorehmr_jax.data.mixtures import MIXTURES
from scorehmr_jax.data.own_sets import OwnSet
from scorehmr_jax.data.samples import Source

NAMES = (*FILES, "amass", "own", *MIXTURES)


@dataclass(frozen=True)
class Given:
    """Files and choices that differ from the released layout; None keeps its."""

    fits: str | None = None  # mosh, eft or spin
    backbone: str | None = None  # pare, pare-shape, prohmr or none
    annotations: Path | None = None
    features: Path | None = None
    statistics: Path | None = None
    estimates: Path | None = None  # makes a set that has a network's estimates too
    name: str | None = None  # of an own set
    fps: float = 10.0  # frames per second that are taken from AMASS
    drop_bad: bool = False  # leave out samples with NaN, which are an error otherwise


def expand(names: Sequence[str]) -> list[str]:
    """Names with a mixture's sets in its place."""
    return [one for name in names for one in MIXTURES.get(name, (name,))]


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
        given: what differs from the released layout.
        overwrite: replace a set that is there, once the new one is whole.
        quiet: show no progress bar.
    Returns:
        The set's folder.
    Raises:
        ValueError: naming file, key, what was expected and found, if something is wrong.
        ImportError: if TFDS or ArrayRecord is not installed.
    """
    from scorehmr_jax.data.builders import BUILDERS

    base, config, source = _source(name, Path(root), given)
    out = Path(out)
    final = out / (given.name or base) / (config or "") / "1.0.0"
    if final.exists() and not overwrite:
        raise ValueError(f"{final}: there is a set already; choose another --out, or --overwrite")
    out.mkdir(parents=True, exist_ok=True)
    # Built aside and moved when it is whole: on one file system a move is all or nothing.
    aside = Path(tempfile.mkdtemp(dir=out, prefix=".building-"))
    try:
        options: dict[str, Any] = {"config": config} if config else {}
        with _bar(source, name, quiet) as bar:
            builder = BUILDERS[base](
                source=source, progress=bar.update, data_dir=str(aside), **options
            )
            # TFDS announces a download.
            with redirect_stdout(io.StringIO()):
                builder.download_and_prepare()
        _move(Path(builder.data_path), final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return final


def _source(name: str, root: Path, given: Given) -> tuple[str, str | None, Source]:
    """The builder's name, its config and the files of a set."""
    base, _, config = name.partition("/")
    if base not in (*FILES, "amass", "own"):
        raise ValueError(f"no data set {base!r}; there are: {', '.join(NAMES)}")
    if not root.exists():
        raise ValueError(f"{root}: no such folder; --data-root is where the data set's files are")
    if base == "own":
        return base, None, OwnSet(root, given.statistics, given.drop_bad)
    if base == "amass":
        packed = root / "datasets/amass.npz"
        return base, None, Amass(packed if packed.is_file() else root, given.fps)
    fits, _, backbone = config.partition("_")
    fits = fits or given.fits or next(iter(FILES[base]))
    # Mosh is to Human3.6M what EFT is to the others.
    fits = "mosh" if (base, fits) == ("h36m", "eft") else fits
    backbone = backbone.replace("_", "-") or given.backbone or "pare"
    from scorehmr_jax.data.builders import BUILDERS

    config = f"{fits}_{backbone}".replace("-", "_")
    known = [c.name for c in BUILDERS[base].BUILDER_CONFIGS]
    if config not in known:
        raise ValueError(f"{base}: no config {config!r}; there are: {', '.join(known)}")
    files = ImageFiles.released(root, base, fits, backbone)
    changes = {k: getattr(given, k) for k in ("annotations", "features", "statistics", "estimates")}
    files = replace(files, **{k: v for k, v in changes.items() if v is not None})
    return base, config, ImageSet(files, given.drop_bad)


def _move(built: Path, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    old = built.with_name("replaced")
    if final.exists():
        os.replace(final, old)
    try:
        os.replace(built, final)
    except BaseException:
        if old.exists():
            os.replace(old, final)
        raise


def _bar(source: Source, name: str, quiet: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=source.total, desc=name, unit=" samples", disable=quiet)


def describe(folder: str | Path) -> str:
    """What a set holds, and what was dropped on the way, in a few lines."""
    from scorehmr_jax.data.records import RecordSet

    records = RecordSet.open(folder)
    notes = records.notes
    columns = ", ".join(f"{name} {width}" for name, width in records.layout.items())
    lines = [
        f"{folder}: {len(records):,} of {notes['read']:,} samples ({columns}), "
        f"{len(records.shards)} shards, {records.num_bytes / 2**20:,.1f} MiB"
    ]
    lines += [f"  dropped {count:,}: {why}" for why, count in notes["dropped"].items()]
    return "\n".join(lines)
