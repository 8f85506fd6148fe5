"""`scorehmr features`: caches row by row, whatever stops the work or is wrong with an image."""

import pickle

import numpy as np
import pytest
from stand_in_networks import registered, stand_in_network

from body_model.files import read_npz, write_npz
from scorehmr_jax.commands import network_parts
from scorehmr_jax.commands.feature_cache import cache_features
from scorehmr_jax.commands.main import main
from scorehmr_jax.formats.features import read_features
from scorehmr_jax.formats.image_rows import read_image_rows
from scorehmr_jax.formats.released import read_groups
from scorehmr_jax.regression import feed

image = pytest.importorskip("PIL.Image")

COUNT, BATCH = 200, 16


@pytest.fixture(scope="module")
def network():
    return stand_in_network()


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    with registered(tmp_path_factory.mktemp("network")) as option:
        yield option


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """200 small photos of noise, of which every fourth holds two people."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    names = [f"{i - (i % 4 == 3):03d}.png" for i in range(COUNT)]
    for name in dict.fromkeys(names):
        pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        image.fromarray(pixels).save(folder / "photos" / name)
    rows = {
        "imgname": np.array(names),
        "center": rng.uniform(10, 30, (COUNT, 2)),
        "scale": rng.uniform(20, 40, COUNT),
    }
    write_npz(folder / "set.npz", rows)
    groups = [{key: array[part] for key, array in rows.items()} for part in np.split(range(9), [5])]
    (folder / "set.pkl").write_bytes(pickle.dumps(groups))
    return folder


def interrupted_at(monkeypatch, count):
    """Stops the work when so many photos have been read."""
    read, seen = feed.read_photo, []

    def read_photo(path, turned):
        seen.append(path)
        if len(seen) == count:
            raise KeyboardInterrupt
        return read(path, turned)

    monkeypatch.setattr(feed, "read_photo", read_photo)
    return seen


def test_an_interrupted_cache_is_the_same_file(data, network, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(network_parts, "_ROWS", 48)
    rows = read_image_rows(data / "set.npz")
    work = (rows, data / "photos", network)
    whole, out = tmp_path / "whole.npz", tmp_path / "out.npz"
    assert cache_features(*work, whole, BATCH) == {}
    kept = []
    for count in (90, 60):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            interrupted_at(patch, count)
            cache_features(*work, out, BATCH, threads=2)
        assert not out.exists()
        kept.append(len([*(tmp_path / "out.npz.parts").iterdir()]))
    assert 0 < kept[0] < kept[1] < 5
    assert f"stopped: {kept[1]} of 5 parts are done and kept in" in capsys.readouterr().out
    seen = interrupted_at(monkeypatch, None)
    assert cache_features(*work, out, BATCH) == {}
    assert len(seen) < COUNT - 48 * kept[1]  # the rest alone, and each photo once
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.npz", "whole.npz"]


def test_unreadable_images_are_listed_and_their_rows_are_nan(
    data, stand_in, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(network_parts, "_ROWS", 48)
    folder = tmp_path / "photos"
    folder.mkdir()
    for file in (data / "photos").iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "000.png").unlink()
    (folder / "130.png").unlink()
    (folder / "130.png").write_bytes((data / "photos/130.png").read_bytes()[:400])
    rows = dict(read_npz(data / "set.npz"))
    rows["scale"][7], rows["center"][8, 0] = 0, np.nan
    write_npz(tmp_path / "set.npz", rows)
    out = tmp_path / "out.npz"
    command = ["features", str(tmp_path / "set.npz"), "--images", str(folder)]
    command += ["--network", stand_in, "--out", str(out), "--batch", str(BATCH)]
    main(command)
    said = capsys.readouterr().out
    bad = [0, 7, 8, 130, 131]  # 130 holds two people
    assert f"img_feats of 195 of 200 images, written to {out}" in said
    assert "5 could not be shown; their rows are NaN, listed in" in said
    assert f"row 0: {folder / '000.png'}: no such file" in said and "truncated" in said
    listed = [line.split("\t") for line in (tmp_path / "out.npz.unreadable.txt").open()]
    assert [int(row) for row, _, _ in listed] == bad
    assert "side 0" in listed[1][2] and "centre nan" in listed[2][2]
    with pytest.warns(UserWarning, match=r"img_feats is NaN or infinite in 5 of 200 rows"):
        (features,) = read_features(out, None, 2048, [COUNT])
    assert [*np.flatnonzero(np.isnan(features).any(1))] == bad
    whole = read_npz(out)
    assert {*whole} == {"img_feats", "pred_pose", "pred_betas", "pred_cam", "pred_cam_t"}
    for key in whole:
        assert np.isnan(whole[key][bad]).all() and np.isfinite(np.delete(whole[key], bad, 0)).all()
    # Mended, the same command makes their parts anew and no others.
    (folder / "000.png").symlink_to(data / "photos/000.png")
    (folder / "130.png").write_bytes((data / "photos/130.png").read_bytes())
    seen = interrupted_at(monkeypatch, None)
    main(command)
    assert "2 could not be shown" in capsys.readouterr().out
    assert len(seen) == 2 * 36  # of 48 rows each, as every fourth shares its photo
    again = read_npz(out)
    good = np.delete(np.arange(COUNT), bad)
    np.testing.assert_array_equal(again["img_feats"][good], whole["img_feats"][good])
    assert [*np.flatnonzero(np.isnan(again["img_feats"]).any(1))] == [7, 8]
    command[1] = str(data / "set.npz")  # whose boxes are all good
    main(command)
    assert np.isfinite(read_npz(out)["img_feats"]).all()
    assert {file.name for file in tmp_path.iterdir()} == {"photos", "set.npz", "out.npz"}
    with pytest.raises(SystemExit, match=r"out.npz: there is a file already; .* or --overwrite"):
        main(command)


def test_sequences_become_a_list_of_dicts_that_evaluation_reads(data, stand_in, tmp_path):
    out = tmp_path / "out.pkl"
    command = ["features", str(data / "set.pkl"), "--images", str(data / "photos")]
    main([*command, "--network", stand_in, "--out", str(out), "--batch", str(BATCH)])
    groups = pickle.loads(out.read_bytes())
    assert [len(group["img_feats"]) for group in groups] == [5, 4]
    assert groups[0]["pred_pose"].dtype == np.float32 and b"numpy._core" not in out.read_bytes()
    first, _ = read_features(out, None, 2048, [5, 4])
    assert np.isfinite(first).all() and first.shape == (5, 2048)
    read = read_groups(data / "set.pkl", out, image_folder=data / "photos")
    np.testing.assert_array_equal(read[1].estimate.translation, groups[1]["pred_cam_t"])
    # The box's centre is seen where the body is, at the size that the box has.
    rows = read_image_rows(data / "set.pkl")
    side = rows.size[0, 0] / 0.75  # of the square that the network is shown
    scale, x, y = groups[0]["pred_cam"][0].astype(float)
    seen = groups[0]["pred_cam_t"][0] / groups[0]["pred_cam_t"][0][2] * 5000 + [20, 15, 0]
    np.testing.assert_allclose(
        seen[:2], rows.center[0] + side * scale / 2 * np.array([x, y]), rtol=1e-4
    )
    np.testing.assert_allclose(groups[0]["pred_cam_t"][0, 2], 2 * 5000 / (side * scale), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        ({}, ["--out", "a.pkl"], r"--out: .*a.pkl: expected a .npz to write, as DATA is one table"),
        ({}, ["--batch", "0"], "--batch: expected 1 or more, found 0"),
        ({}, ["--images", "none"], "none: has none of the 200 images, first 000.png"),
        ({"scale": None}, [], r"set.npz: the key 'scale' is missing"),
        (
            {"scale": np.ones((COUNT, 3))},
            [],
            r"scale has shape \(200, 3\); expected the box's side",
        ),
        ({"scale": np.full(COUNT, 1.2)}, [], "expected the box's side in pixels, found 1.2"),
        ({"center": np.zeros((3, 2))}, [], r"center has shape \(3, 2\)"),
        ({"center": None, "scale": None}, [], "no boxes: expected center .* or body_keypoints_2d"),
        ({"scale": np.zeros(COUNT)}, [], "none of the first 200 images can be shown: .*side 0"),
    ],
)
def test_mistakes_are_named(data, stand_in, tmp_path, change, flags, message):
    rows = dict(read_npz(data / "set.npz")) | change
    write_npz(tmp_path / "set.npz", {key: v for key, v in rows.items() if v is not None})
    command = ["features", str(tmp_path / "set.npz"), "--images", str(data / "photos")]
    command += ["--network", stand_in, "--out", str(tmp_path / "out.npz"), *flags]
    with pytest.raises(SystemExit, match=message):
        main(command)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pare", "--network: expected NAME=FILE, such as pare=pare.ckpt, found pare"),
        ("spin=a.pt", "--network: expected one of .* before the =, found 'spin'"),
    ],
)
def test_a_network_is_named_with_its_file(data, tmp_path, text, message):
    command = ["features", str(data / "set.npz"), "--images", str(data / "photos")]
    with pytest.raises(SystemExit, match=message):
        main([*command, "--network", text, "--out", str(tmp_path / "out.npz")])
