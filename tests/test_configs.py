"""The experiments, and their fields from the command line."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import configs
from scorehmr_jax.datasets.image_sets import FILES
from scorehmr_jax.datasets.mixtures import MIXTURES
from scorehmr_jax.formats.backbones import BACKBONES
from scorehmr_jax.training.log import Log

NAMES = sorted(
    path.stem.replace("_", "-")
    for path in Path(configs.__file__).parent.glob("*.py")
    if path.stem != "__init__"
)


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_names_its_command(name):
    config = configs.get(name)
    doc = sys.modules[f"configs.{name.replace('-', '_')}"].__doc__
    assert f"python train.py {name} --workdir runs/{name} --steps " in doc
    assert configs.get(name.replace("-", "_")) == config
    for mixture in MIXTURES:
        told = f"build-data {mixture} " in doc
        assert told == (dict(config.mixture) == MIXTURES[mixture])


@pytest.mark.parametrize("name", NAMES)
def test_networks_take_the_features_of_the_sets(name):
    config = configs.get(name)
    backbones = {known.replace("-", "_"): backbone for known, backbone in BACKBONES.items()}
    for each, _ in config.mixture:
        data, kind = each.split("/")
        fits, _, backbone = kind.partition("_")
        assert fits in FILES[data]
        assert config.network.condition_dim == backbones[backbone].width
        assert config.network.with_shape == backbones[backbone].with_betas
    if config.mixture:
        assert sum(share for _, share in config.mixture) == pytest.approx(1)


def test_fields_are_overridden_by_name():
    changes = ("--learning-rate", "1e-5", "--ema.decay", "0.5", "--network.hidden", "8")
    config = configs.get("tiny", [*changes, "--leave-out", "a", "b"])
    assert (config.learning_rate, config.ema.decay, config.network.hidden) == (1e-5, 0.5, 8)
    assert config.leave_out == ("a", "b")
    tiny = configs.get("tiny")
    assert config.network == replace(tiny.network, hidden=8) and config.batch == tiny.batch


def test_what_is_no_experiment_or_no_field_is_told(capsys, monkeypatch):
    with pytest.raises(ValueError, match=r"no experiment 'huge'.*there are: open-cond"):
        configs.get("huge")
    with pytest.raises(SystemExit):
        configs.get("tiny", ["--learning-rat", "1"])
    assert "--learning-rat" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tyro", None)
    with pytest.raises(ValueError, match=r"--seed 1: fields .* need tyro: pip install"):
        configs.get("tiny", ["--seed", "1"])
    assert configs.get("tiny").batch == 32


def test_values_that_make_no_sense_are_told():
    tiny = configs.get("tiny")
    with pytest.raises(ValueError, match=r"condition_dropout: expected \[0, 1\), found 1"):
        replace(tiny, condition_dropout=1)
    with pytest.raises(ValueError, match=r"condition_on: expected none, .* 0 features; found 'est"):
        replace(tiny, condition_on="estimate")
    seen = replace(tiny.network, features=9)
    with pytest.raises(ValueError, match="condition_on: motion capture has no images"):
        replace(tiny, condition_on="features", network=seen)
    with pytest.raises(ValueError, match="mixture: expected every set once, found a, a"):
        replace(configs.get("scorehmr-b"), mixture=(("a", 1.0), ("a", 0.5)))
    for shares in ((0.6, 0.4), (0.5, -0.1)):
        with pytest.raises(ValueError, match="more_mocap: expected shares above 0 that leave"):
            replace(tiny, more_mocap=tuple(zip("ab", shares, strict=True)))
    for again in ("a.npz", "mocap_poses.npz"):
        twice = (("a.npz", 0.1), ("b.npz", 0.1), (again, 0.2))
        with pytest.raises(ValueError, match=r"more_mocap: expected every file once, .* found a"):
            replace(tiny, more_mocap=twice)
    with pytest.raises(ValueError, match=r"roll: only cameras .* motion capture roll; found 14"):
        replace(configs.get("scorehmr-b"), roll=14.0)
    with pytest.raises(ValueError, match=r"estimates_per_frame: .* for motion capture alone"):
        replace(configs.get("scorehmr-b"), estimates_per_frame=1)
    with pytest.raises(
        ValueError, match=r"run\.save_every: expected a multiple of .* 20, found 30"
    ):
        replace(tiny, run=replace(tiny.run, save_every=30))


def test_only_what_decides_the_result_is_compared():
    flat = configs.flat(configs.get("tiny"))
    assert (
        flat["ema.decay"] == 0.995
        and flat["network.hidden"] == 32
        and flat["network"] == "residual-mlp"
    )
    assert not any(name.startswith("run") for name in flat)


def test_runs_of_earlier_versions_go_on():
    now = configs.flat(configs.get("scorehmr-b"))
    former = {"network.": "denoiser.", "level_group": "share_level"}
    saved = {}
    for name, value in now.items():
        for new, old in former.items():
            name = name.replace(new, old)
        saved[name] = value
    del saved["network"]
    assert configs.renamed(saved | {"condition_on": "image"}) == now
    assert configs.renamed(now) == now


def test_somebody_who_watches_sees_a_bar(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Log(tmp_path, done=10, total=40) as log:
        log.write({"step": 20, "loss": 0.5})
    printed = capsys.readouterr()
    assert '{"step": 20, "loss": 0.5}' in printed.out
    assert "20/40" in printed.err and "loss=0.5000" in printed.err


def test_a_resumed_log_has_every_step_once(tmp_path, capsys):
    with Log(tmp_path) as log:
        for step in (1, 2, 3):
            log.write({"step": step, "loss": 0.5})
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 4, "lo')  # killed
    with Log(tmp_path, done=2) as log:
        log.write({"step": 3, "loss": 0.25})
    assert (tmp_path / "log.jsonl").read_text().splitlines() == [
        '{"step": 1, "loss": 0.5}',
        '{"step": 2, "loss": 0.5}',
        '{"step": 3, "loss": 0.25}',
    ]
    assert capsys.readouterr().out.count('{"step": 3') == 2
