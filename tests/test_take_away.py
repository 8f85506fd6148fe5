"""Bodies in the files of other programs: what these hold is where our bodies are."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_output import accessor

from body_model import stand_in
from body_model.io import save
from body_model.joints import JOINT_NAMES, NUM_JOINTS
from scorehmr_jax import x_to_rotations
from scorehmr_jax.commands.main import main
from scorehmr_jax.datasets.amass import Amass
from scorehmr_jax.output.amass import CAMERA_TO_Z_UP, save_amass
from scorehmr_jax.output.bvh import save_bvh
from scorehmr_jax.output.people import read_first, read_people
from scorehmr_jax.screening import PADDING

FRAMES = 12
LOOKED_AT = (0, 3, 5, 8, 11)
FLIP = np.array([1, -1, -1])  # from the camera's frame to y up
BODY = stand_in()
FACES = np.asarray(BODY.faces)


def matrices(angles):
    """Rotations of axis-angle, by another library."""
    flat = Rotation.from_rotvec(np.reshape(angles, (-1, 3))).as_matrix()
    return flat.reshape(*np.shape(angles), 3).astype(np.float32)


def motion(people=1, seed=0):
    """Columns of a results file, of people who move wildly."""
    rng = np.random.default_rng(seed)
    angles = rng.normal(size=(people, FRAMES, NUM_JOINTS, 3)).astype(np.float32)
    pose = matrices(angles)
    betas = np.repeat(rng.normal(size=(people, 1, 10)), FRAMES, axis=1).astype(np.float32)
    translation = (np.array([0.1, 0.2, 4.0]) + rng.normal(size=(people, FRAMES, 3))).astype(
        np.float32
    )
    return {"pose": pose, "betas": betas, "translation": translation}


def one(columns):
    return {key: value[0] for key, value in columns.items()}


@pytest.fixture(scope="module")
def body_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("body") / "body.npz"
    save(path, BODY)
    return path


@pytest.fixture
def export(tmp_path, body_file, monkeypatch):
    """`scorehmr export` in a folder of its own, of columns given."""
    monkeypatch.chdir(tmp_path)

    def run(columns, out, *flags):
        np.savez("result.npz", **columns)
        main(["export", "result.npz", str(out), "--body", str(body_file), *flags])
        return tmp_path / out

    return run


def our_joints(columns, frames=slice(None)):
    rows = (columns[key][frames] for key in ("pose", "betas", "translation"))
    return np.asarray(BODY.joints(*rows))


def glb_joints(path, time):
    """Joints [24, 3] at a time in seconds, by walking the scene graph of a .glb."""
    gltf = pytest.importorskip("pygltflib")
    document = gltf.GLTF2().load(str(path))
    places = [np.array(node.translation) for node in document.nodes[:NUM_JOINTS]]
    turns = [np.array(node.rotation) for node in document.nodes[:NUM_JOINTS]]
    for channel in document.animations[0].channels:
        sampler = document.animations[0].samplers[channel.sampler]
        key = np.argmin(np.abs(accessor(document, sampler.input) - time))
        into = turns if channel.target.path == "rotation" else places
        into[channel.target.node] = accessor(document, sampler.output)[key]
    local = Rotation.from_quat(turns).as_matrix()
    found = np.zeros((NUM_JOINTS, 3))

    def walk(joint, turn, place):
        found[joint] = place = place + turn @ places[joint]
        for child in document.nodes[joint].children:
            walk(child, turn @ local[joint], place)

    walk(0, np.eye(3), np.zeros(3))
    return found, [document.nodes[j].name for j in range(NUM_JOINTS)]


def bvh_joints(path):
    """Joints [T, 24, 3] by name order, and the frame time, from the text of a .bvh alone."""
    words = iter(path.read_text().split())
    names, parents, offsets, orders, stack = [], [], [], [], [-1]
    for word in words:
        if word in ("ROOT", "JOINT"):
            names.append(next(words))
            parents.append(stack[-1])
            stack.append(len(names) - 1)
            offsets.append(None)
        elif word == "End":
            stack.append(-2)
        elif word == "OFFSET":
            offset = [float(next(words)) for _ in range(3)]
            if stack[-1] != -2:
                offsets[stack[-1]] = offset
        elif word == "CHANNELS":
            orders.append([next(words) for _ in range(int(next(words)))])
        elif word == "}":
            stack.pop()
        elif word == "Frames:":
            frames = int(next(words))
            next(words), next(words)
            seconds = float(next(words))
            numbers = np.array([float(x) for x in words]).reshape(frames, -1)
    axis = {"X": 0, "Y": 1, "Z": 2}
    turns, places, column = [None] * len(names), np.zeros((len(names), frames, 3)), 0
    for joint, order in enumerate(orders):
        offset = np.tile(offsets[joint], (frames, 1))
        turn = np.tile(np.eye(3), (frames, 1, 1))
        for channel in order:
            k = axis[channel[0]]
            if channel.endswith("position"):
                offset[:, k] = numbers[:, column]
            else:
                vector = np.zeros((frames, 3))
                vector[:, k] = np.radians(numbers[:, column])
                turn = turn @ matrices(vector)
            column += 1
        above = parents[joint]
        if above < 0:
            turns[joint], places[joint] = turn, offset
        else:
            turns[joint] = turns[above] @ turn
            places[joint] = places[above] + np.einsum("trc,tc->tr", turns[above], offset)
    return places.swapaxes(0, 1)[:, [names.index(n) for n in JOINT_NAMES]], seconds


def test_joints_of_glb_and_bvh_are_ours(export):
    columns = one(motion())
    wanted = our_joints(columns) * FLIP
    path = export(columns, "walk.glb", "--fps", "25")
    for frame in LOOKED_AT:
        joints, names = glb_joints(path, frame / 25)
        assert names == [*JOINT_NAMES]
        np.testing.assert_allclose(joints, wanted[frame], atol=1e-4)
    joints, seconds = bvh_joints(export(columns, "walk.bvh", "--fps", "25"))
    assert seconds == pytest.approx(1 / 25)
    np.testing.assert_allclose(joints, wanted, atol=1e-4)


def test_another_reader_of_bvh_has_our_joints(tmp_path):
    bvhio = pytest.importorskip("bvhio")
    columns = one(motion())
    save_bvh(tmp_path / "a.bvh", BODY, columns["pose"], columns["betas"][0], columns["translation"])
    wanted = our_joints(columns) * FLIP
    root = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
    for frame in LOOKED_AT:
        root.loadPose(frame)
        for joint, name in enumerate(JOINT_NAMES):
            found = root.filter(name, isEqual=True)[0].PositionWorld
            np.testing.assert_allclose([*found], wanted[frame, joint], atol=1e-4)


def test_angles_of_bvh_go_on_from_frame_to_frame(tmp_path):
    # One and a half turns about y, and through the pole of the angle about x.
    angles = np.zeros((60, NUM_JOINTS, 3), np.float32)
    angles[:, 16, 1] = np.linspace(0, 3 * np.pi, 60)
    angles[:, 17, 0] = np.linspace(0, np.pi, 60)
    save_bvh(tmp_path / "a.bvh", BODY, angles, np.zeros(10), np.zeros((60, 3)))
    lines = (tmp_path / "a.bvh").read_text().splitlines()[-60:]
    numbers = np.array([line.split() for line in lines], float)
    assert np.abs(np.diff(numbers, axis=0)).max() < 15
    wanted = our_joints(
        {"pose": angles, "betas": np.zeros((60, 10)), "translation": np.zeros((60, 3))}
    )
    np.testing.assert_allclose(bvh_joints(tmp_path / "a.bvh")[0], wanted * FLIP, atol=1e-4)


@pytest.mark.parametrize(("joints", "width", "numbers"), [(52, 156, 16), (24, 72, 10)])
def test_amass_stands_where_the_body_stood_with_z_up(export, joints, width, numbers):
    columns = one(motion())
    if joints == 52:
        columns["pose"][:, 22:] = np.eye(3)
    path = export(columns | {"fps": np.array(50.0)}, "clip.npz", "--joints", str(joints))
    with np.load(path) as file:
        clip = dict(file)
    assert clip["poses"].shape == (FRAMES, width) and clip["betas"].shape == (numbers,)
    assert ("dmpls" in clip) == (joints == 52)
    assert clip["mocap_framerate"] == 50 and str(clip["gender"]) == "neutral"
    assert "present" not in clip and clip["poses"][:, 66:].any() == (joints == 24)
    pose = clip["poses"][:, :72].reshape(FRAMES, NUM_JOINTS, 3)
    found = BODY.joints(pose, clip["betas"][None, :10], clip["trans"])
    wanted = our_joints(columns) @ CAMERA_TO_Z_UP.T
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    np.testing.assert_allclose(matrices(pose[:, 1:]), columns["pose"][:, 1:], atol=1e-4)
    assert (CAMERA_TO_Z_UP @ [0, -1, 0] == [0, 0, 1]).all()
    ((_, samples),) = Amass(path, fps=50).parts()  # our own reader of AMASS takes it
    body = x_to_rotations(samples.pose)[:, 1:22]
    np.testing.assert_allclose(body, columns["pose"][:, 1:22], atol=1e-5)


def test_meshes_are_one_for_each_frame(export):
    trimesh = pytest.importorskip("trimesh")
    columns = one(motion())
    columns["translation"][4] = np.nan
    rows = (columns[key] for key in ("pose", "betas", "translation"))
    wanted = np.asarray(BODY.vertices(*rows)) * FLIP
    for suffix in (".obj", ".ply"):
        folder = export(columns, f"walk{suffix}").with_suffix("")
        files = sorted(folder.glob(f"*{suffix}"))
        assert [int(file.stem) for file in files] == [f for f in range(FRAMES) if f != 4]
        mesh = trimesh.load(files[-1], process=False)
        np.testing.assert_allclose(mesh.vertices, wanted[-1], atol=1e-4)
        np.testing.assert_array_equal(mesh.faces, FACES)
    single = {key: value[:1] for key, value in columns.items()}
    assert export(single, "one.ply").is_file()


def test_frames_without_a_body_keep_their_time(export, capsys):
    columns = one(motion())
    gone = columns | {"status": np.zeros(FRAMES, int)}
    gone["pose"] = gone["pose"].copy()
    gone["pose"][5] = np.nan
    gone["status"][[0, 11]] = PADDING
    joints, _ = bvh_joints(export(gone, "walk.bvh", "--fps", "10"))
    told = capsys.readouterr()
    assert "9 of 12 frames have a body" in told.out and "frames 0, 5, 11" in told.err
    with np.load(export(gone, "clip.npz", "--fps", "10")) as clip:
        assert [*np.flatnonzero(~clip["present"])] == [0, 5, 11]
    wanted = our_joints(columns) * FLIP
    kept = [1, 2, 3, 4, 6, 7, 8, 9, 10]
    np.testing.assert_allclose(joints[kept], wanted[kept], atol=1e-4)
    np.testing.assert_allclose(joints[[0, 11]], wanted[[1, 10]], atol=1e-4)
    np.testing.assert_allclose(joints[5, 0], (wanted[4, 0] + wanted[6, 0]) / 2, atol=1e-4)
    # Half way between the rotations of its neighbours, on the shortest way.
    person = read_people("result.npz")[0][0].filled()
    turn = person.pose[4].swapaxes(-1, -2) @ person.pose[6]
    half = person.pose[4] @ matrices(Rotation.from_matrix(turn).as_rotvec() / 2)
    np.testing.assert_allclose(person.pose[5], half, atol=1e-4)
    assert not person.present[5]


def test_bodies_are_written_in_the_parameters_of_another_file(export, tmp_path, capsys):
    mix = np.linalg.qr(np.random.default_rng(3).normal(size=(10, 10)))[0]
    other = dataclasses.replace(
        BODY,
        template=BODY.template + np.float32([0, 0.3, 0.1]),
        shape_directions=(BODY.shape_directions @ mix).astype(np.float32),
    )
    save(tmp_path / "other.npz", other)
    columns = one(motion())
    path = export(columns, "clip.npz", "--fps", "10", "--joints", "24", "--as-body", "other.npz")
    assert "shape: fitted in other.npz, 0 mm apart" in capsys.readouterr().out
    with np.load(path) as clip:
        pose = clip["poses"].reshape(FRAMES, NUM_JOINTS, 3)
        found = other.joints(pose, clip["betas"][None], clip["trans"])
    np.testing.assert_allclose(found, our_joints(columns) @ CAMERA_TO_Z_UP.T, atol=1e-3)


def test_shape_numbers_of_the_open_body_are_said_to_be_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("body_model.open_body", lambda: BODY)
    np.savez(tmp_path / "result.npz", **one(motion()))
    for name, said in (("clip.npz", True), ("clip.bvh", False)):
        main(["export", str(tmp_path / "result.npz"), str(tmp_path / name), "--fps", "10"])
        assert ("betas are those of the open body" in capsys.readouterr().err) == said


def test_people_get_files_of_their_own(export, capsys):
    columns = motion(people=3)
    columns["pose"][1] = np.nan  # found in no frame
    path = export(columns, "all.bvh", "--fps", "10")
    assert sorted(p.name for p in path.parent.glob("*.bvh")) == ["all_1.bvh", "all_2.bvh"]
    wanted = our_joints({key: value[2] for key, value in columns.items()}) * FLIP
    np.testing.assert_allclose(bvh_joints(path.with_name("all_2.bvh"))[0], wanted, atol=1e-4)
    export(columns, "second.bvh", "--fps", "10", "--person", "2")
    assert path.with_name("second.bvh").read_text() == path.with_name("all_2.bvh").read_text()
    with pytest.raises(SystemExit, match="--person: expected 1 to 2, found 3"):
        export(columns, "third.bvh", "--person", "3")


def test_the_ground_is_put_at_height_0(export, capsys):
    columns = one(motion())
    # Upright with a leaning camera, on a circle.
    lean = matrices(np.array([np.pi + 0.2, 0, 0]))
    columns["pose"][:] = np.eye(3)
    columns["pose"][:, 0] = lean
    t = np.linspace(0, 6, FRAMES)
    on_floor = 2 * np.stack([np.cos(t), 0 * t, np.sin(t)], -1)
    columns["translation"] = (on_floor @ lean.T + [0, 0, 6]).astype(np.float32)
    pelvis = np.asarray(BODY.rest_joints(columns["betas"][:1]))[0, 0]
    columns["translation"] += (lean @ pelvis - pelvis).astype(np.float32)
    joints, _ = bvh_joints(export(columns, "walk.bvh", "--fps", "10", "--ground"))
    vertices = np.asarray(BODY.shaped(columns["betas"][0]))
    soles = joints[:, 0, 1] - (pelvis[1] - vertices[:, 1].min())
    np.testing.assert_allclose(soles, 0, atol=0.03)
    assert "its tilt is known to" in capsys.readouterr().out
    export(columns, "level.bvh", "--fps", "10", "--up", *map(str, lean @ [0, 1, 0]))
    assert "its tilt is as given" in capsys.readouterr().out
    np.testing.assert_allclose(
        bvh_joints(Path("level.bvh"))[0][:, 0, 1], joints[0, 0, 1], atol=0.03
    )


def test_what_cannot_be_written_is_named(export, tmp_path, capsys):
    columns = one(motion())
    with pytest.raises(
        SystemExit, match=r"walk.fbx: expected a name that ends in .glb, .bvh, .npz"
    ):
        export(columns, "walk.fbx")
    with pytest.raises(SystemExit, match="--fps: expected frames per second, above 0; found 0"):
        export(columns, "walk.bvh", "--fps", "0")
    with pytest.raises(SystemExit, match="is what is read"):
        export(columns, "result.npz")
    with pytest.raises(SystemExit, match=r"holds no bodies.*export-prior"):
        export({"params": np.zeros(3)}, "walk.bvh")
    with pytest.raises(SystemExit, match="no frame has a body"):
        export(columns | {"status": np.full(FRAMES, PADDING)}, "walk.bvh")
    with pytest.raises(SystemExit, match=r"expected pose \[T, 24, 3, 3\]"):
        export(columns | {"translation": columns["translation"][:5]}, "walk.bvh")
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="file"):
        export(columns, "file/walk.bvh", "--fps", "10")
    assert not [*tmp_path.glob("*.bvh")]
    export(columns, "walk.bvh")
    assert "does not say how many frames are a second; 30 are assumed" in capsys.readouterr().err


def test_rows_that_are_no_rotations_harm_no_other(tmp_path):
    columns = one(motion())
    columns["pose"][2] *= 2
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.warns(UserWarning, match="found others in 1 of 12"):
        (person,), fps = read_people(tmp_path / "a.npz")
    assert fps is None and not person.present[2] and person.present.sum() == FRAMES - 1


def first_columns(columns, seed=7):
    """The same with first estimates of their own."""
    people = columns["pose"].shape[0] if columns["pose"].ndim == 5 else 1
    made = motion(people, seed)
    return columns | {
        f"first_{key}": value.reshape(columns[key].shape) for key, value in made.items()
    }


def test_first_estimates_are_read_of_each_person(tmp_path):
    columns = first_columns(motion(people=3))
    columns["first_pose"][0] = np.nan
    columns["first_pose"][2, 4] *= 3
    columns["first_translation"][2, 5] = np.inf
    status = np.zeros((3, FRAMES), int)
    status[1, 7] = PADDING
    np.savez(tmp_path / "a.npz", status=status, **columns)
    with pytest.warns(UserWarning, match=r"a\.npz: first_pose: .*found others in 1 of 36"):
        second, third = read_first(tmp_path / "a.npz")
    assert (second.row, third.row) == (1, 2)
    assert [*np.flatnonzero(~second.present)] == [7]
    assert [*np.flatnonzero(~third.present)] == [4, 5]
    np.testing.assert_allclose(second.pose[0], columns["first_pose"][1, 0], atol=1e-6)
    np.testing.assert_array_equal(third.translation[0], columns["first_translation"][2, 0])
    people, _ = read_people(tmp_path / "a.npz")
    np.testing.assert_array_equal(people[1].translation, columns["translation"][1])


def test_first_estimates_are_of_the_people_who_are_drawn(tmp_path):
    from scorehmr_jax.commands.export_overlay import first_of

    path = _saved(tmp_path, first_columns(motion(people=3)))
    people, _ = read_people(path)
    assert [person.row for person in first_of(path, people[2:])] == [2]
    assert [person.row for person in first_of(path, people)] == [0, 1, 2]


def test_first_estimates_that_are_not_there_or_do_not_fit(tmp_path):
    columns = first_columns(one(motion()))
    assert read_first(_saved(tmp_path, one(motion()))) == []
    with pytest.raises(ValueError, match=r"b\.npz: no key first_betas beside first_pose, first_tr"):
        read_first(_saved(tmp_path, {k: v for k, v in columns.items() if k != "first_betas"}))
    short = {k: v[:5] if k.startswith("first") else v for k, v in columns.items()}
    with pytest.raises(ValueError, match=r"first_translation: .*\(12,\), found shape \(5, 3\)"):
        read_first(_saved(tmp_path, short))


def test_the_frame_rate_of_the_file_is_taken_unless_another_is_given(export, capsys):
    columns = one(motion()) | {"fps": np.array(50.0)}
    for flags, rate in (((), 50), (("--fps", "20"), 20)):
        _, seconds = bvh_joints(export(columns, "walk.bvh", *flags))
        assert seconds == pytest.approx(1 / rate)
    assert "are assumed" not in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"result\.npz: fps: expected one number .*found -1"):
        export(columns | {"fps": np.array(-1.0)}, "walk.bvh")


def test_one_shape_of_many_is_said(tmp_path):
    columns = one(motion())
    columns["betas"] = np.linspace(0, 1, FRAMES)[:, None] * np.ones(10, np.float32)
    np.savez(tmp_path / "a.npz", **columns)
    (person,), _ = read_people(tmp_path / "a.npz")
    with pytest.warns(UserWarning, match="takes their mean"):
        np.testing.assert_allclose(person.shape(), 0.5)
    same, _ = read_people(_saved(tmp_path, one(motion())))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same[0].shape()


def _saved(folder, columns):
    np.savez(folder / "b.npz", **columns)
    return folder / "b.npz"


def test_writers_refuse_what_does_not_fit(tmp_path):
    columns = one(motion())
    pose, betas, place = columns["pose"], columns["betas"][0], columns["translation"]
    lost = np.where(np.arange(FRAMES)[:, None] == 3, np.nan, place)
    for write, name in ((save_bvh, "a.bvh"), (save_amass, "a.npz")):
        with pytest.raises(ValueError, match=r"a\..*one shape"):
            write(tmp_path / name, BODY, pose, columns["betas"], place)
        with pytest.raises(ValueError, match=r"a\..*frame 3 \(1 of"):
            write(tmp_path / name, BODY, pose, betas, lost)
        with pytest.raises(ValueError, match="fps"):
            write(tmp_path / name, BODY, pose, betas, place, fps=0)
    with pytest.raises(ValueError, match=r"suffix \.bvh, found \.txt"):
        save_bvh(tmp_path / "a.txt", BODY, pose, betas, place)
    with pytest.raises(ValueError, match="joints: expected 52"):
        save_amass(tmp_path / "a.npz", BODY, pose, betas, place, joints=55)
    assert not list(tmp_path.iterdir())
