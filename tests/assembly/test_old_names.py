"""Old names of configuration, assembly and inference warn and give the new object."""

import importlib

import pytest


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
    ],
)
def test_old_names_are_the_new_objects(old, new):
    def find(path):
        module, _, name = f"alignment_jax.{path}".rpartition(".")
        return getattr(importlib.import_module(module), name)

    with pytest.warns(DeprecationWarning, match="is now"):
        assert find(old) is find(new)
