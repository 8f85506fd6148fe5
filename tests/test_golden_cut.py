"""The cut golden set: small, and number by number a part of the whole one."""

import lzma
import pickle
from pathlib import Path

import numpy as np
import pytest
from golden import cut

BYTES = 4_000_000


def test_it_is_small():
    shipped = [p for p in cut.HERE.iterdir() if p.is_file()]
    assert sum(p.stat().st_size for p in shipped) < BYTES


def test_it_is_unpacked_once_and_a_file_that_was_left_out_skips(tmp_path):
    folder = cut.folder(tmp_path)
    before = [p.stat().st_mtime_ns for p in sorted(Path(folder).rglob("*"))]
    assert cut.folder(tmp_path) == folder and [*tmp_path.iterdir()] == [Path(folder)]
    assert before == [p.stat().st_mtime_ns for p in sorted(Path(folder).rglob("*"))]
    assert (folder / "ckpt" / "tiny_pare_ema_f16.npz").is_file()
    with pytest.raises(pytest.skip.Exception, match=r"loop_C_video\.npz is in shared/golden alone"):
        folder / "loop_C_video.npz"
    assert not (folder / "no_such_file.npz").exists()  # a slip of the pen is no reason to skip


@pytest.fixture(scope="module")
def pair(golden):
    if isinstance(golden, cut.CutSet):
        pytest.skip("needs the folder shared/golden beside the repository")
    return golden, cut.folder()


def test_every_number_is_one_of_the_whole_set(pair):
    whole, part = pair
    body, reached = cut.body_of_reached_vertices(whole)
    for file in sorted(Path(part).rglob("*.npz")):
        name = file.relative_to(part).as_posix()
        with np.load(file) as found, np.load(whole / name) as wanted:
            for key in found.files:
                ours, theirs = found[key], body[key] if name == cut.BODY else wanted[key]
                assert ours.dtype == theirs.dtype, (name, key)
                if name == cut.BODY:
                    np.testing.assert_array_equal(ours, theirs, f"{name}: {key}")
                else:
                    numbers = ours[ours == ours]  # not those that are NaN
                    assert set(numbers.tolist()) <= set(theirs.ravel().tolist()), (name, key)
    assert reached.sum() == 1132


def test_the_checkpoint_and_the_pickles_are_the_released_ones(pair):
    whole, part = pair
    checkpoints = [lzma.decompress((f / cut.CHECKPOINT).read_bytes()) for f in pair]
    assert checkpoints[0] == checkpoints[1]
    assert (whole / cut.REGRESSOR).read_bytes() == (part / cut.REGRESSOR).read_bytes()
    for end in ("", "_hmr2_preds", "_pare_feats"):
        name = f"pack/h36m_val_multiview{end}.pkl"
        (ours,), theirs = (pickle.loads((f / name).read_bytes()) for f in (part, whole))
        assert ours.keys() == theirs[0].keys()
        for key, value in theirs[0].items():
            assert type(ours[key]) is type(value)
            np.testing.assert_array_equal(ours[key], value, key)
