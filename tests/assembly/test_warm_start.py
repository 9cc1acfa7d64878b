"""The arrays that a warm start takes over from another run."""

import re
import types

import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax.assembly import warm_start
from alignment_jax.core.errors import ConfigError
from alignment_jax.train.experiment import Model


def init(key, a, b):
    return {"map_a": {"kernel": jnp.zeros((2, 3))}, "head_a": {"kernel": jnp.zeros((3, 2))}}, {}


@pytest.fixture
def start(monkeypatch):
    """(arrays of the run, its classes) -> the parameters that a run with classes x and y starts from, and the lines."""

    def call(arrays, labels=("x", "y")):
        found = {"arrays": arrays, "step": 7, "labels": list(labels)}
        monkeypatch.setattr(warm_start, "_read", lambda *_: found)
        batch = (np.zeros((1, 2)), np.zeros((1, 2)))
        model, lines = warm_start.start_from_run(
            Model(init, apply=init), "run:somewhere", of="adapters", first_batch=batch, labels=("x", "y")
        )
        return model.init(None, *batch)[0], lines

    return call


def test_the_last_layer_belongs_to_its_classes(start):
    ones = {"params/map_a/kernel": np.ones((2, 3), np.float32), "params/head_a/kernel": np.ones((3, 2), np.float32)}
    same, lines = start(ones)
    assert float(same["head_a"]["kernel"].sum()) == 6
    assert lines[0].startswith("start: 2 of 2 arrays")
    other, lines = start(ones, labels=("y", "x"))
    assert float(other["head_a"]["kernel"].sum()) == 0
    assert float(other["map_a"]["kernel"].sum()) == 6
    assert "params/head_a/kernel" in " ".join(lines[1:])


def test_arrays_that_do_not_fit_are_named_and_no_match_is_refused(start):
    wrong = {"params/map_a/kernel": np.ones((2, 4), np.float32), "params/old": np.ones(1)}
    with pytest.raises(ConfigError, match=r"init\.name is 'run:somewhere'"):
        start(wrong)
    _, lines = start(wrong | {"params/head_a/kernel": np.ones((3, 2), np.float32)})
    assert any(re.search(r"params/map_a/kernel \[2, 4\].*\[2, 3\]", line) for line in lines)
    assert any("params/old" in line for line in lines)


def test_another_model_is_refused(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    run = types.SimpleNamespace(config=types.SimpleNamespace(model=types.SimpleNamespace(name="two_tower")))
    monkeypatch.setattr(warm_start, "read_run", lambda folder: run)
    with pytest.raises(ConfigError, match=r"init\.name.*two_tower.*adapters"):
        warm_start._read(tmp_path, f"run:{tmp_path}", "adapters")


def test_tokens_are_those_of_the_run(tmp_path):
    assert warm_start.source_tokenizer("random") is None
    assert warm_start.source_tokenizer(f"run:{tmp_path}") is None
    (tmp_path / "tokenizer.json").write_text("{}")
    assert warm_start.source_tokenizer(f"run:{tmp_path}") == tmp_path / "tokenizer.json"
