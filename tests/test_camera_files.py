"""Calibrations in other packages' formats: one rig, written in each, is read as it is."""

import json

import numpy as np
import pytest

from scorehmr_jax.formats.cameras import read_cameras

NAMES = ("left", "right")
SIZE = np.array([[1280.0, 720.0], [1920.0, 1080.0]])
DIST = np.array([[-0.1, 0.02, 0.001, -0.002, 0.0], [0.05, 0.0, 0.0, 0.0, 0.0]])
K = np.array(
    [[[900, 0, 640.5], [0, 905, 350], [0, 0, 1.0]], [[1500, 0, 950], [0, 1500, 545], [0, 0, 1.0]]]
)
VECTORS = np.array([[0.1, 2.0, -0.3], [0, 0, 0.0]])  # Rodrigues
T = np.array([[0.5, -0.2, 3.0], [0.0, 1.0, 4.5]])


def rotation(vector):
    """By the exponential's series, another way than the reader's."""
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    term = total = np.eye(3)
    for n in range(1, 40):
        term = term @ cross / n
        total = total + term
    return total


R = np.stack([rotation(vector) for vector in VECTORS])


def toml(path):
    """Pose2Sim's, with a table that is no camera."""
    parts = [
        f"[cam_{v}]\nname = '{NAMES[v]}'\nsize = {SIZE[v].tolist()}\nmatrix = {K[v].tolist()}\n"
        f"distortions = {DIST[v, :4].tolist()}\nrotation = {VECTORS[v].tolist()}\n"
        f"translation = {T[v].tolist()}\nfisheye = false\n"
        for v in range(2)
    ]
    path.write_text("\n".join([*parts, "[metadata]\nadjusted = false\nerror = 0.0\n"]))
    return path


def qualisys(path, **more):
    """Qualisys's: 64ths of a pixel, millimetres, camera to world, looking along -z."""
    cameras = []
    for v in range(2):
        matrix = np.diag([1.0, -1.0, -1.0]) @ R[v]
        center = -R[v].T @ T[v] * 1000
        turn = " ".join(f"r{i + 1}{j + 1}='{matrix[i, j]!r}'" for i in range(3) for j in range(3))
        place = " ".join(f"{k}='{float(c)!r}'" for k, c in zip("xyz", center, strict=True))
        left, top = 10, 20
        lens = {
            "focalLengthU": K[v, 0, 0] * 64,
            "focalLengthV": K[v, 1, 1] * 64,
            "centerPointU": (K[v, 0, 2] + left) * 64,
            "centerPointV": (K[v, 1, 2] + top) * 64,
            "sensorMaxU": 2000 * 64,
            **{f"radialDistortion{i + 1}": DIST[v, k] for i, k in enumerate((0, 1, 4))},
            **{f"tangentalDistortion{i + 1}": DIST[v, 2 + i] for i in range(2)},
            **more.get("lens", {}),
        }
        cameras.append(
            f"<camera active='1' serial='{NAMES[v]}' viewrotation='{more.get('viewrotation', 0)}'>"
            f"<fov_video left='{left}' top='{top}' right='{SIZE[v, 0] + left - 1}' "
            f"bottom='{SIZE[v, 1] + top - 1}'/><transform {turn} {place}/>"
            f"<intrinsic {' '.join(f'{k}={str(float(n))!r}' for k, n in lens.items())}/></camera>"
        )
    cameras.append("<camera active='0' serial='off'/>")
    text = f"<?xml version='1.0'?><calibration><cameras>{''.join(cameras)}</cameras></calibration>"
    path.write_text(text.replace("np.float64(", "").replace(")'", "'"))
    return path


def opencv_matrix(array, indent="   "):
    array = np.atleast_2d(array)
    numbers = ", ".join(repr(float(x)) for x in array.ravel())
    rows, columns = array.shape
    return (
        f"!!opencv-matrix\n{indent}rows: {rows}\n{indent}cols: {columns}\n{indent}dt: d\n"
        f"{indent}data: [ {numbers} ]\n"
    )


def easymocap(path):
    """A folder with two files, keys with the camera's name at the end."""
    path.mkdir()
    head = "%YAML:1.0\n---\nnames:\n" + "".join(f'  - "{name}"\n' for name in NAMES)
    intri, extri = head, head
    for v, name in enumerate(NAMES):
        intri += f"K_{name}: {opencv_matrix(K[v])}dist_{name}: {opencv_matrix(DIST[v])}"
        intri += f"W_{name}: {int(SIZE[v, 0])}\nH_{name}: {int(SIZE[v, 1])}\n"
        extri += f"R_{name}: {opencv_matrix(VECTORS[v][:, None])}"
        extri += f"Rot_{name}: {opencv_matrix(R[v])}T_{name}: {opencv_matrix(T[v][:, None])}"
    (path / "intri.yml").write_text(intri)
    (path / "extri.yml").write_text(extri)
    return path


def text(path):
    """Words before numbers; extrinsics as one matrix for the first camera."""
    lines = ["# a rig"]
    for v, name in enumerate(NAMES):
        lines += [f"[{name}]", "K:", *(" ".join(map(str, row)) for row in K[v])]
        if v == 0:
            both = np.column_stack([R[v], T[v]]).tolist()
            lines += ["extrinsic", *(" ".join(map(str, row)) for row in [*both, [0, 0, 0, 1]])]
        else:
            lines += [f"R = {R[v].ravel().tolist()}", f"t = {T[v].tolist()}"]
        lines += [f"dist {' '.join(map(str, DIST[v]))}", f"size {SIZE[v, 0]} x {SIZE[v, 1]}", ""]
    path.write_text("\n".join(lines))
    return path


def as_json(path):
    """Panoptic's words, a list of cameras."""
    cameras = [
        {
            "name": name,
            "resolution": SIZE[v].tolist(),
            "K": K[v].tolist(),
            "distCoef": DIST[v].tolist(),
            "R": R[v].tolist(),
            "t": T[v][:, None].tolist(),
        }
        for v, name in enumerate(NAMES)
    ]
    path.write_text(json.dumps({"cameras": cameras}))
    return path


def arrays(path):
    np.savez(path, names=NAMES, K=K, dist=DIST, R=R, t=T, image_size=SIZE)
    return path


WRITERS = {
    "Calib.toml": toml,
    "Calib.qca.txt": qualisys,
    "easymocap": easymocap,
    "rig.txt": text,
    "rig.json": as_json,
    "rig.npz": arrays,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_rig_is_read_as_it_is(name, tmp_path):
    found = read_cameras(WRITERS[name](tmp_path / name))
    assert found.names == NAMES
    for got, expected in ((found.K, K), (found.distortion, DIST), (found.image_size, SIZE)):
        np.testing.assert_allclose(got, expected, atol=1e-9)
    np.testing.assert_allclose(found.R, R, atol=1e-9)
    np.testing.assert_allclose(found.t, T, atol=1e-9)


@pytest.mark.parametrize("kind", ["yml", "xml", "json"])
def test_opencvs_file_of_one_camera(kind, tmp_path):
    path = tmp_path / f"phone.{kind}"
    numbers = {"camera_matrix": K[0], "distortion_coefficients": DIST[0]}
    if kind == "yml":
        body = "".join(f"{key}: {opencv_matrix(value)}" for key, value in numbers.items())
        path.write_text(f"%YAML:1.0\n---\nimage_width: 1280\nimage_height: 720\n{body}")
    elif kind == "xml":
        body = "".join(
            f'<{key} type_id="opencv-matrix"><rows>{np.atleast_2d(value).shape[0]}</rows>'
            f"<cols>{np.atleast_2d(value).shape[1]}</cols><dt>d</dt>"
            f"<data>{' '.join(map(str, value.ravel()))}</data></{key}>"
            for key, value in numbers.items()
        )
        size = "<image_width>1280</image_width><image_height>720</image_height>"
        path.write_text(f'<?xml version="1.0"?><opencv_storage>{size}{body}</opencv_storage>')
    else:
        held = {
            key: {
                "type_id": "opencv-matrix",
                "rows": np.atleast_2d(value).shape[0],
                "cols": np.atleast_2d(value).shape[1],
                "dt": "d",
                "data": value.ravel().tolist(),
            }
            for key, value in numbers.items()
        }
        path.write_text(json.dumps({"image_width": 1280, "image_height": 720, **held}))
    found = read_cameras(path)
    assert found.names == ("phone",) and found.R is None and found.t is None
    np.testing.assert_allclose(found.K[0], K[0])
    np.testing.assert_allclose(found.distortion[0], DIST[0])
    np.testing.assert_array_equal(found.image_size[0], SIZE[0])


def test_cameras_are_taken_by_name(tmp_path):
    found = read_cameras(toml(tmp_path / "c.toml")).of(["right", "left"])
    np.testing.assert_allclose(found.t, T[::-1])
    with pytest.raises(ValueError, match="no camera 'middle'; found right, left"):
        found.of(["middle"])


def test_what_is_not_known_stays_unknown(tmp_path):
    path = tmp_path / "k.txt"
    path.write_text("K\n900 0 640\n0 900 360\n0 0 1\n")
    found = read_cameras(path)
    assert found.names == ("k",) and found.R is None
    assert np.isnan(found.image_size).all() and not found.distortion.any()


def test_other_units_are_refused_and_can_be_given(tmp_path):
    path = tmp_path / "c.npz"
    np.savez(path, names=NAMES, K=K, R=R, t=1000 * T)
    with pytest.raises(ValueError, match=r"t: cameras are \d+ m from the origin; .* scale=0.001"):
        read_cameras(path)
    np.testing.assert_allclose(read_cameras(path, scale=0.001).t, T)


def test_turned_views_are_announced(tmp_path):
    with pytest.warns(UserWarning, match="viewrotation is 90"):
        read_cameras(qualisys(tmp_path / "c.qca.txt", viewrotation=90))


def changed(**more):
    held = {"K": K[0].tolist(), "R": R[0].tolist(), "t": T[0].tolist(), **more}
    return json.dumps({"cam": {key: value for key, value in held.items() if value is not None}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello", "of no known format; expected Pose2Sim's"),
        ("[metadata]\nerror = 0.0", "no camera with an intrinsic matrix"),
        ("<a/>", "XML of <a>; expected Qualisys's"),
        ("<calibration>", "is no XML, or cut short"),
        ("<!DOCTYPE a><calibration/>", "refuses XML with definitions"),
        ("<calibration><camera serial='1'/></calibration>", "camera 1: no fov_video"),
        ("%YAML:1.0\n---\nK: [", "is no YAML"),
        ('{"cam"', "is no JSON, or cut short"),
        (changed(K=[1, 2]), r"cam: K: expected shape \(3, 3\)"),
        (changed(K=np.zeros((3, 3)).tolist()), "K: expected focal lengths above 0"),
        (changed(K="fine"), "K: expected numbers, found 'fine'"),
        (changed(R=np.ones((3, 3)).tolist()), "R is no rotation"),
        (changed(R=(-R[0]).tolist()), "R is no rotation: .* det R = -1"),
        (changed(R=[1, 2]), r"R: expected \[3, 3\] or a Rodrigues vector"),
        (changed(t=None), "cam: no t; expected rotation and translation together"),
        (changed(t=[1, 2]), "t: expected shape"),
        (changed(dist=[0, 0, 0, 0, 0, 0.5]), "6 numbers, of which those after the fifth are not 0"),
        (changed(fisheye=True), "a fisheye lens; expected OpenCV's five numbers"),
        (changed(K=(K[0] / 1280).tolist(), size=[1280, 720]), "K: expected focal|focal: expected"),
    ],
)
def test_bad_calibrations_are_named(content, message, tmp_path):
    path = tmp_path / "c.dat"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_cameras(path)
    assert str(path) in str(error.value)


def test_whole_pixels_are_no_64ths(tmp_path):
    path = qualisys(tmp_path / "c.qca.txt", lens={"sensorMaxU": 2000})
    with pytest.raises(ValueError, match="expected 64ths of a pixel"):
        read_cameras(path)


def test_cameras_with_and_without_a_place_are_refused(tmp_path):
    path = tmp_path / "c.json"
    both = {"a": json.loads(changed())["cam"], "b": {"K": K[0].tolist()}}
    path.write_text(json.dumps(both))
    with pytest.raises(ValueError, match="b: no R and t, which other cameras have"):
        read_cameras(path)
    path.write_text(json.dumps([{"name": "a", "K": K[0].tolist()}] * 2))
    with pytest.raises(ValueError, match="camera a comes more than once"):
        read_cameras(path)
    with pytest.raises(ValueError, match=r"no intri.yml; expected EasyMocap's"):
        read_cameras(tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        read_cameras(tmp_path / "none.toml")
