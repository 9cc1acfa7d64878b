"""Which configuration may resume in a workdir."""

import json

import pytest

from alignment_jax.core.errors import ConfigError
from alignment_jax.train.workdir import check_same_config


def test_a_run_resumes_under_another_name_and_with_no_other_setting(tmp_path):
    kept = {"name": "Flickr8k, frozen latents", "model": {"widths": (1, 2)}}
    assert not check_same_config(tmp_path, kept)
    (tmp_path / "config.json").write_text(json.dumps(kept))
    (tmp_path / "checkpoints" / "last" / "1").mkdir(parents=True)
    assert check_same_config(tmp_path, {**kept, "name": "mine.npz, frozen latents"})
    with pytest.raises(ConfigError, match=r"model\.widths: .*\[1, 3\]"):
        check_same_config(tmp_path, {**kept, "model": {"widths": (1, 3)}})
