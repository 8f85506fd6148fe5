"""The markers of UI-PRMD, from its text files and from an .npz."""

import gzip

import numpy as np
import pytest

from scorehmr_jax.datasets import ui_prmd
from scorehmr_jax.datasets.ui_prmd_files import NAMES, read_markers
from scorehmr_jax.marker_places import PLUG_IN_GAIT

RIGHT = "Segmented Movements/Vicon/Positions"
WRONG = f"Incorrect {RIGHT}"


def text(frames, separator=" ", scale=1.0):
    """Frames of a file, whose numbers are told apart: frame * 1000 + column."""
    rows = 1000 * np.arange(frames)[:, None] + np.arange(1, 118)
    return "\n".join(separator.join(f"{scale * n:.4f}" for n in row) for row in rows) + "\n"


@pytest.fixture
def folder(tmp_path):
    files = {
        f"{RIGHT}/m02_s09_e10_positions.txt": text(33),
        f"{RIGHT}/m01_s03_e02_positions.txt.gz": text(16, ","),
        f"{WRONG}/m01_s03_e02_positions_inc.txt": text(17),
        # Other files of the data set: of Kinect, of angles, of whole recordings.
        "Segmented Movements/Kinect/Positions/m01_s01_e01_positions.txt": "1 2 3\n",
        "Segmented Movements/Vicon/Angles/m01_s01_e01_angles.txt": "1 2 3\n",
        "Movements/Vicon/Positions/m03_s10_positions.txt": "1 2 3\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        data = content.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    return tmp_path


def held(**changes):
    """An .npz of four frames of two episodes."""
    rng = np.random.default_rng(0)
    return {
        "markers": rng.integers(-5000, 5000, (4, 39, 3)).astype(np.int16),
        "unit": np.array(0.0002),
        "names": np.array(NAMES),
        "subject": np.full(4, 3),
        "movement": np.full(4, 1),
        "correct": np.ones(4, int),
        "episode": np.array([1, 1, 2, 2]),
    } | changes


def test_the_markers_are_those_whose_places_are_known():
    assert len(NAMES) == 39 and {*NAMES} == {*PLUG_IN_GAIT}


def test_text_files_become_every_sixteenth_frame(folder):
    found = read_markers(folder)
    assert found.names == NAMES
    # Done right first, then movement by movement, as they are numbered.
    assert found.subject.tolist() == [3, 9, 9, 9, 3, 3]
    expected = [[1, 1, 2], *[[2, 1, 10]] * 3, *[[1, 0, 2]] * 2]
    assert found.takes.tolist() == expected
    np.testing.assert_allclose(found.points[:, 0, 2], [0.001, 0.001, 16.001, 32.001, 0.001, 16.001])
    # x, y and z in millimetres, z up, become y up in metres; the last marker's are columns 115 on.
    np.testing.assert_allclose(found.points[0, -1], [0.116, 0.117, 0.115], rtol=1e-6)


def test_frames_that_lack_a_marker_are_left_out(folder):
    path = folder / RIGHT / "m02_s09_e10_positions.txt"
    rows = [line.split() for line in path.read_text().splitlines()]
    rows[16][6:9] = ["0.0"] * 3
    rows[32][4] = "0.0"  # a marker on an axis is there
    path.write_text("\n".join(map(" ".join, rows)))
    np.testing.assert_allclose(read_markers(folder).points[1:3, 0, 2], [0.001, 32.001])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m01_s01_e01_positions.txt", b"1 2 3\n", "expected 117 columns, .* of 39 .* found 3"),
        ("m01_s01_e01_positions.txt", b"", "expected 117 columns"),
        ("m01_s01_e01_positions.txt", b"1 two 3\n", "cannot be read as numbers"),
        ("m01_s01_e01_positions.txt", b"\xff\xfe", "cannot be read as numbers"),
        ("m01_s01_e01_positions.txt.gz", b"1 2 3\n", "cannot be read as numbers"),
        ("m01_s01_e01_positions.txt.gz", gzip.compress(b"1 2\n" * 9)[:-9], "cannot be read"),
        ("m01_s03_e02_positions.txt", b"1\n", r"the episode is in .*txt too|the episode is in"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_text_files_that_cannot_be_read_are_named(folder, name, content, message):
    (folder / RIGHT / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"m01_s0\d_e0\d_positions\.txt.*: {message}"):
        read_markers(folder)


def test_a_folder_without_them_says_what_it_lacks(tmp_path):
    with pytest.raises(ValueError, match=r"expected files \*/Vicon/Positions/m.* found none"):
        read_markers(tmp_path)


def test_an_npz_holds_them_too(tmp_path):
    given = held()
    np.savez(tmp_path / "in.npz", **given)
    found = read_markers(tmp_path / "in.npz")
    expected = 0.0002 * given["markers"][..., [1, 2, 0]]
    np.testing.assert_allclose(found.points, expected, rtol=1e-6)
    assert found.takes.tolist() == [[1, 1, 1]] * 2 + [[1, 1, 2]] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"markers": np.zeros((4, 38, 3), np.int16)},
            r"markers: expected shape \(4, 39, 3\), found \(4, 38, 3\)",
        ),
        ({"markers": np.zeros(4)}, r"markers: expected shape \(4, 39, 3\), found \(4,\)"),
        ({"names": np.array([*NAMES[:-1], "LFHD"])}, "names: expected every marker once"),
        ({"names": np.array([NAMES])}, r"names: expected shape \(39,\), found \(1, 39\)"),
        ({"names": np.arange(39)}, "names: expected text, found int"),
        ({"unit": np.ones(3)}, r"unit: expected shape \(\), found \(3,\)"),
        ({"unit": np.array("mm")}, "unit: expected numbers, found <U2"),
        ({"subject": np.ones(3, int)}, r"subject: expected shape \(4,\), found \(3,\)"),
        ({"episode": np.array([1, 1, 2.5, 2])}, "episode: expected whole numbers, found float64"),
        (
            {"episode": np.array([1, 2, 1, 2])},
            "one after the other, found those of 3, 1, 1, 1 in 2 places",
        ),
        (
            {
                "markers": np.zeros((0, 39, 3)),
                **dict.fromkeys(("subject", "movement", "correct", "episode"), np.zeros(0, int)),
            },
            "no frame with all markers",
        ),
        # What only the fit sees.
        ({"names": np.array([*NAMES[:-1], "WAND"])}, "no place is known for WAND"),
        ({"unit": np.array(1.0)}, "metres"),
    ],
)
def test_what_is_odd_is_named_with_file_and_key(tmp_path, changes, message):
    np.savez(tmp_path / "in.npz", **held(**changes))
    with pytest.raises(SystemExit, match=rf"in\.npz: .*{message}"):
        ui_prmd.main([str(tmp_path / "in.npz"), "--out", str(tmp_path / "out.npz")])
    assert not (tmp_path / "out.npz").exists()
