"""Folders written whole or not at all."""

import os
import subprocess
import sys

import pytest

from body_model.folders import (
    building,
    folder_exists,
    is_left_over,
    is_superseded,
    put_folder,
    standing,
)


def put(target, text, error=None):
    with building(target.parent) as built:
        (built / "a").write_text(text)
        if error is not None:
            raise error
        put_folder(built, target)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "set"
    for text in ("first", "second"):
        put(target, text)
        assert (target / "a").read_text() == text
    with pytest.raises(KeyboardInterrupt):
        put(target, "half", KeyboardInterrupt)
    assert (target / "a").read_text() == "second"
    assert os.listdir(tmp_path / "deep") == ["set"]
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file: is a file; expected a folder"):
        put(tmp_path / "file" / "set", "text")


def test_a_link_to_a_folder_is_followed(tmp_path):
    (tmp_path / "store").mkdir()
    link, real = tmp_path / "latest", tmp_path / "store" / "set"
    link.symlink_to("store/set")  # leads nowhere yet
    for text in ("first", "second"):
        assert folder_exists(link) == (text == "second")
        put(link, text)
        assert link.is_symlink() and (real / "a").read_text() == text
    assert standing(link) == real and os.listdir(tmp_path / "store") == ["set"]
    assert sorted(os.listdir(tmp_path)) == ["latest", "store"] and os.listdir(real) == ["a"]
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match="loop: is a link that leads to itself"):
        put(tmp_path / "loop", "text")


def test_a_folder_replaced_by_a_killed_process_is_put_back(tmp_path, monkeypatch):
    target = tmp_path / "set"
    put(target, "old")
    rename = os.replace

    def killed(source, place):
        if place == target:
            raise KeyboardInterrupt
        rename(source, place)

    # Between its two renames, and in what would put that right.
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        put(target, "new")
    monkeypatch.undo()
    assert not target.exists()
    left = standing(target)
    assert (left / "a").read_text() == "old" and not target.exists()
    assert is_left_over(left) and not is_superseded(left)
    assert folder_exists(target) and os.listdir(target) == ["a"] and not left.exists()
    assert not folder_exists(tmp_path / "other")


def test_what_a_user_keeps_beside_a_folder_stays(tmp_path):
    target = tmp_path / "set"
    put(target, "first")
    kept = ("set.replaced", ".set.replaced", "gone.replaced", ".gone.replaced")
    for name in kept:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    assert standing(target) == target and folder_exists(target)
    assert standing(tmp_path / "gone") == tmp_path / "gone"
    assert not folder_exists(tmp_path / "gone")
    (tmp_path / ".set.replaced" / "mine").unlink()
    (tmp_path / ".set.replaced").rmdir()
    put(target, "second")
    assert (target / "a").read_text() == "second"
    assert sorted(os.listdir(tmp_path)) == sorted({"set", *kept} - {".set.replaced"})
    assert all((tmp_path / name / "mine").exists() for name in kept if name != ".set.replaced")


def test_what_a_killed_build_left_goes_and_a_living_one_stays(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from body_model.folders import building\n"
        "with building(Path(sys.argv[1])): print('building', flush=True); time.sleep(60)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for process in started:
            assert process.stdout is not None and process.stdout.readline()
        assert len(list(tmp_path.iterdir())) == 2
        started[0].kill()
        started[0].wait()
        with building(tmp_path):
            assert len(list(tmp_path.iterdir())) == 2
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_an_address_is_refused_and_never_becomes_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^gs://bucket/set: is an address"):
        building("gs://bucket/set").__enter__()
    assert not any(tmp_path.iterdir())
