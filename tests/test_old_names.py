"""Old names of modules, functions and classes warn and give the new object."""

import importlib
import sys

import pytest

from alignment_jax._moved import MOVED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("config.run_briefly", "config.shrink_for_runlocal"),
        ("config.sound_and_picture", "config.audio_visual_inputs"),
        ("assembly.build.build_model", "assembly.build.configured_model"),
        ("inference.trained_model.Trained", "inference.TrainedModel"),
        ("inference.seed_models.Models", "inference.SeedModels"),
        ("inference.analysis.noises_of", "inference.applicable_noises"),
        ("inference.analysis.kept_embeddings", "inference.embedding_arrays"),
        ("config.trained.Trained", "inference.TrainedModel"),
        ("data.tables.read_rows", "data.manifest_rows.read_positional_rows"),
    ],
)
def test_old_names_are_the_new_objects(old, new):
    def find(path):
        module, _, name = f"alignment_jax.{path}".rpartition(".")
        return getattr(importlib.import_module(module), name)

    with pytest.warns(DeprecationWarning, match="is now"):
        assert find(old) is find(new)


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_a_moved_module_has_the_names_of_the_new_one(old, new, monkeypatch):
    monkeypatch.delitem(sys.modules, f"alignment_jax.{old}", raising=False)
    with pytest.warns(DeprecationWarning, match=new):
        module = importlib.import_module(f"alignment_jax.{old}")
    target = importlib.import_module(f"alignment_jax.{new}")
    assert {name for name in vars(target) if not name.startswith("__")} <= set(vars(module))
