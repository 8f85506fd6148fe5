"""Folders of the released code: the place of each file of a data set."""

import os
from dataclasses import dataclass
from pathlib import Path

from body_model.files import local_path


@dataclass(frozen=True)
class ReleasedLayout:
    """The released code's folder `data`, with `cache` in it or beside it.

    Nothing is looked for but `cache` and the checkpoint: the other paths may not exist.

    Raises:
        ValueError: if it is the address of an object store.
    """

    data: Path

    def __init__(self, data: str | Path) -> None:
        # The parent of a folder `.` is known only once its path is absolute.
        object.__setattr__(self, "data", Path(os.path.abspath(local_path(data))))

    @property
    def cache(self) -> Path:
        """The folder of what networks said of the images."""
        beside = self.data.parent / "cache"
        # Where `data` is a link, `cache` may lie beside the link or beside what it points to.
        places = (self.data / "cache", beside, self.data.resolve().parent / "cache")
        return next((place for place in places if place.is_dir()), beside)

    def annotations(self, file: str) -> Path:
        """Returns the annotations of a data set, such as `3dpw_test.npz`."""
        return self.data / "datasets" / file

    def image_sizes(self, file: str) -> Path:
        """Returns the list of image sizes, which this library adds to the released files."""
        return self.data / "datasets" / f"{Path(file).stem}_img_size.npz"

    def predictions(self, network: str, file: str) -> Path:
        """Returns estimates or features of a network, such as `hmr2b` or `pare`."""
        return self.cache / network / file

    def feature_statistics(self, network: str) -> Path:
        """Returns mean and standard deviation of a network's features."""
        return self.data / "stats" / f"{network}_feat_stats.npz"

    @property
    def betas_statistics(self) -> Path:
        """The range of the shape numbers that a prior with shape was trained on."""
        return self.data / "stats/betas_stats_eft_fits.npz"

    @property
    def body(self) -> Path:
        """The SMPL body."""
        return self.data / "smpl/SMPL_NEUTRAL.pkl"

    @property
    def extra_joints(self) -> Path:
        """The regressor of the 19 joints after OpenPose's 25."""
        return self.data / "SMPL_to_J19.pkl"

    def checkpoint(self) -> Path:
        """Finds the one model there is, whatever its name.

        Returns:
            Its path; the usual one if there is none.
        Raises:
            ValueError: if there are several and none has the usual name.
        """
        folder = self.data / "model_weights"
        usual = folder / "score_hmr/model-100.pt"
        found = sorted(folder.glob("*/model-*.pt"))
        if usual.is_file() or not found:
            return usual
        if len(found) > 1:
            raise ValueError(
                f"{folder}: expected one checkpoint, found {', '.join(map(str, found))}; choose "
                "one with --weights"
            )
        return found[0]
