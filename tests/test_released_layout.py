"""The released code's folders, wherever they are and by whatever path they are named."""

import pytest

from scorehmr_jax.datasets.image_sets import ImageFiles
from scorehmr_jax.evaluation.benchmarks import BENCHMARKS
from scorehmr_jax.formats.backbones import BACKBONES
from scorehmr_jax.formats.released_layout import ReleasedLayout


@pytest.mark.parametrize("name", [".", "../data", "../../here/data", "absolute"])
@pytest.mark.parametrize("cache", ["here/cache", "here/data/cache"])
def test_cache_is_found_beside_the_folder_or_in_it(tmp_path, monkeypatch, name, cache):
    data = tmp_path / "here/data"
    data.mkdir(parents=True)
    (tmp_path / cache).mkdir()
    monkeypatch.chdir(data)
    root = data if name == "absolute" else name
    expected = tmp_path / cache / "pare/h36m_val_p2.npz"
    benchmark = BENCHMARKS["h36m"]
    files = benchmark.with_features(benchmark.released_files(root), root, BACKBONES["pare"])
    assert files.features.resolve() == expected
    expected = tmp_path / cache / "pare/h36m_train_mosh.npz"
    assert ImageFiles.released(root, "h36m", "mosh", "pare").features.resolve() == expected


def test_cache_is_found_beside_a_link_and_beside_what_it_points_to(tmp_path):
    (tmp_path / "disk/data").mkdir(parents=True)
    (tmp_path / "disk/cache").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "work/data").symlink_to(tmp_path / "disk/data")
    layout = ReleasedLayout(tmp_path / "work/data")
    assert layout.cache == tmp_path / "disk/cache"
    (tmp_path / "work/cache").mkdir()
    assert layout.cache == tmp_path / "work/cache"


def test_the_one_checkpoint_is_found(tmp_path):
    layout = ReleasedLayout(tmp_path)
    assert layout.checkpoint() == tmp_path / "model_weights/score_hmr/model-100.pt"
    paths = [tmp_path / f"model_weights/{name}/model-100.pt" for name in ("eft", "spin")]
    for path in paths:
        path.parent.mkdir(parents=True)
    paths[0].touch()
    assert layout.checkpoint() == paths[0]
    paths[1].touch()
    with pytest.raises(ValueError, match=r"spin/model-100.pt; choose one with --weights"):
        layout.checkpoint()
    task = BENCHMARKS["3dpw"]
    assert task.released_files(tmp_path, weights=paths[1]).weights == paths[1]
