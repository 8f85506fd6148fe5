"""Commands keep what they compile: in whose folder, when not, and what a user hears of it."""

import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest

from scorehmr_jax import compilation_cache

SCRIPT = """
import jax, sys
from scorehmr_jax.compilation_cache import use_compilation_cache
compiled = []
jax.monitoring.register_event_listener(lambda event, **_: compiled.append(event))
use_compilation_cache()
assert jax.jit(lambda x: 2 * x)(1.0) == 2
print(sum(event.endswith("/cache_hits") for event in compiled))
"""


def run(home, **environ):
    chosen = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "TF_CPP"))}
    chosen |= {"XDG_CACHE_HOME": str(home), "JAX_PLATFORMS": "cpu"} | environ
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=chosen, check=True
    )


def test_the_second_run_compiles_nothing_and_only_the_first_says_where(tmp_path):
    first, second = run(tmp_path), run(tmp_path)
    assert int(first.stdout) == 0 and int(second.stdout) > 0
    assert str(tmp_path) in first.stderr and compilation_cache.SWITCH in first.stderr
    assert len(first.stderr.splitlines()) == 1 and second.stderr == ""
    (folder,) = (tmp_path / "scorehmr-jax" / "compiled").iterdir()
    assert list(folder.iterdir()) and folder.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def untouched(tmp_path, monkeypatch):
    """A user's folder; the configuration of this process must not be changed by the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(compilation_cache.SWITCH, raising=False)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path
    found = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", before)
    assert found is None


@pytest.mark.parametrize("value", ["off", "0", "False"])
def test_it_can_be_switched_off(untouched, monkeypatch, value):
    monkeypatch.setenv(compilation_cache.SWITCH, value)
    compilation_cache.use_compilation_cache()
    assert not list(untouched.iterdir())


@pytest.mark.parametrize(("folder", "enabled"), [("/their/own", True), (None, False)])
def test_what_the_user_has_told_jax_holds(untouched, monkeypatch, folder, enabled):
    chosen = {"jax_compilation_cache_dir": folder, "jax_enable_compilation_cache": enabled}
    with monkeypatch.context() as patch:
        # Without a method that would change it.
        patch.setattr(jax, "config", SimpleNamespace(**chosen))
        compilation_cache.use_compilation_cache()
    assert not list(untouched.iterdir())


def test_a_folder_that_cannot_be_made_is_no_failure(untouched, monkeypatch, capsys):
    (untouched / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(untouched / "file"))
    compilation_cache.use_compilation_cache()
    assert capsys.readouterr().err == ""


def test_programs_of_somebody_else_are_not_run(untouched, monkeypatch):
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    compilation_cache.use_compilation_cache()


def test_programs_written_long_ago_are_removed(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    compilation_cache._remove_old(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
