"""The parts that a refinement is done and kept in."""

import numpy as np

import scorehmr_jax as sh
from scorehmr_jax.commands import refine_parts
from scorehmr_jax.commands.refine_parts import parts_of, remove_parts, settings_of


def test_parts_have_few_sizes_and_hold_every_sample_once():
    present = np.random.default_rng(0).random((4, 300)) < 0.6
    for video in (True, False):
        parts = parts_of(present, video)
        count = np.zeros(present.shape, int)
        for part in parts:
            np.add.at(count, (part.person[part.mask], part.frame[part.mask]), 1)
        np.testing.assert_array_equal(count, present)
        assert {len(part.mask) for part in parts} <= {16, 32, 64, 128, 512}
    assert [part.name for part in parts_of(present, True)] == [f"person{p}" for p in range(4)]


def test_only_parts_are_removed_from_their_folder(tmp_path):
    folder = tmp_path / "bodies.parts"
    remove_parts(folder)  # nothing is there
    (folder / "person0").mkdir(parents=True)
    kept = [folder / name for name in ("thesis.npz", "person1.npz", "person0/a.npz")]
    gone = [folder / f"{name}-0123456789abcdef.npz" for name in ("person12", "images0")]
    for file in (*kept, *gone):
        file.write_bytes(b"x")
    remove_parts(folder)
    assert all(file.exists() for file in kept) and not any(file.exists() for file in gone)
    for file in kept:
        file.unlink()
    (folder / "person0").rmdir()
    remove_parts(folder)
    assert not folder.exists()


def test_a_part_of_other_settings_software_or_files_is_not_taken(tmp_path, monkeypatch):
    prior = tmp_path / "prior.npz"
    prior.write_bytes(b"one")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"x")
    config = sh.RefineConfig.for_images()

    def settings():
        return settings_of(config, ["open-cond", prior, tmp_path / "folder"])

    seen = [settings()]
    assert settings() == seen[0]
    config = sh.RefineConfig(iterations=3)
    seen.append(settings())
    prior.write_bytes(b"two")
    seen.append(settings())
    (tmp_path / "folder" / "a").write_bytes(b"y")
    seen.append(settings())
    monkeypatch.setattr(refine_parts, "versions", lambda: {"scorehmr-jax": "9"})
    seen.append(settings())
    assert len({*seen}) == len(seen)
