"""Versions and commit, from a clone, from an installation and from neither."""

import json
import subprocess
from importlib import metadata

import pytest

from scorehmr_jax import provenance


@pytest.fixture(autouse=True)
def fresh():
    provenance.commit.cache_clear()
    yield
    provenance.commit.cache_clear()


@pytest.fixture
def code_in(monkeypatch):
    def at(folder):
        monkeypatch.setattr(provenance, "__file__", str(folder / "scorehmr_jax/provenance.py"))

    return at


def test_a_clone_has_a_commit_and_says_when_it_was_changed(tmp_path, code_in):
    def git(*args):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        run = subprocess.run(
            ["git", "-C", tmp_path, *who, *args], capture_output=True, text=True, check=True
        )
        return run.stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-qm", "one")
    git("tag", "v1")
    code_in(tmp_path)
    assert provenance.commit() == git("rev-parse", "HEAD")
    provenance.commit.cache_clear()
    (tmp_path / "file").write_text("2")
    assert provenance.commit() == git("rev-parse", "HEAD") + "-dirty"
    # An environment within this repository is not this repository.
    provenance.commit.cache_clear()
    code_in(tmp_path / ".venv/lib")
    assert provenance.commit() != git("rev-parse", "HEAD") + "-dirty"


def test_an_installation_from_a_repository_has_its_commit(tmp_path, code_in, monkeypatch):
    class Installed:
        def read_text(self, name):
            assert name == "direct_url.json"
            return json.dumps({"url": "https://x/y.git", "vcs_info": {"commit_id": "abc"}})

    code_in(tmp_path)
    monkeypatch.setattr(provenance, "distribution", lambda name: Installed())
    assert provenance.commit() == "abc"


def test_what_is_not_installed_has_no_version(tmp_path, code_in, monkeypatch):
    def missing(name):
        if name.startswith("scorehmr"):
            raise metadata.PackageNotFoundError(name)
        return "1.2"

    code_in(tmp_path)
    monkeypatch.setattr(provenance, "version", missing)
    monkeypatch.setattr(provenance, "distribution", missing)
    found = provenance.versions()
    assert found["scorehmr-jax"] is None and found["commit"] is None and found["flax"] == "1.2"
    assert set(found) >= {"python", "jax", "numpy"}
