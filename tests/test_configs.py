"""The experiments, and their fields from the command line."""

import sys
from dataclasses import replace

import pytest

import configs
from scorehmr_jax.training.log import Log

NAMES = ("open-cond", "open-uncond", "scorehmr-a", "scorehmr-b", "tiny", "with-shape")


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_names_its_command(name):
    config = configs.get(name)
    doc = sys.modules[f"configs.{name.replace('-', '_')}"].__doc__
    assert f"python train.py {name} --workdir runs/{name} --steps " in doc
    assert configs.get(name.replace("-", "_")) == config
    assert (config.network.condition_dim > 0) == (config.condition_on != "none")


def test_sizes_and_mixtures_are_the_papers():
    a, b, shape = map(configs.get, ("scorehmr-a", "scorehmr-b", "with-shape"))
    assert (a.network.condition_dim, b.network.condition_dim) == (2048, 3072)
    assert shape.network.condition_dim == 4608 and shape.network.dim == 154
    for config in (a, b, shape):
        assert [share for _, share in config.mixture] == [0.5, 0.3, 0.2]
        assert (config.batch, config.learning_rate, config.schedule) == (128, 1e-4, "constant")
        assert config.condition_on == "features"


def test_fields_are_overridden_by_name():
    config = configs.get("tiny", ["--learning-rate", "1e-5", "--ema.decay", "0.5",
                                  "--network.hidden", "8", "--leave-out", "a", "b"])  # fmt: skip
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
    with pytest.raises(ValueError, match=r"estimates_per_frame: .* for motion capture alone"):
        replace(configs.get("scorehmr-b"), estimates_per_frame=1)
    with pytest.raises(
        ValueError, match=r"run\.save_every: expected a multiple of .* 20, found 30"
    ):
        replace(tiny, run=replace(tiny.run, save_every=30))


def test_only_what_decides_the_result_is_compared():
    flat = configs.flat(configs.get("tiny"))
    assert flat["ema.decay"] == 0.995 and flat["network.hidden"] == 32
    assert not any(name.startswith("run") for name in flat)


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
        '{"step": 1, "loss": 0.5}', '{"step": 2, "loss": 0.5}', '{"step": 3, "loss": 0.25}',
    ]  # fmt: skip
    assert capsys.readouterr().out.count('{"step": 3') == 2
