"""A run of a closed form with few dimensions: what `train` notes, once and again, and what `embed` writes."""

import re

import numpy as np
import pytest
from cli_runs import FAST, write_embeddings

from alignment_jax.cli.main import main
from alignment_jax.inference.trained_model import open_run, open_source


@pytest.mark.slow
def test_notes_of_train_and_the_width_of_embed(tmp_path, repository, capsys):
    path, workdir, out = write_embeddings(tmp_path / "pairs.npz"), tmp_path / "run", tmp_path / "out.npz"
    with np.load(path) as found:
        arrays = dict(found)
    arrays["text"][-1] = arrays["text"][0]  # of the last item, in test, and of the first, in train
    np.savez(path, **arrays)
    config = f"{repository}/configs/flickr8k_frozen.py:runlocal,method=cca,data=embeddings:{path}"
    command = ["train", "--config", config, "--workdir", str(workdir), *FAST]
    command += ["--config.init.dim=4", "--config.init.shrinkage=0.5", "--config.init.power=1.0"]
    for finished in (False, True):
        assert main(command) == 0
        shown = capsys.readouterr().out
        assert re.search(r"^1 of 20 .*\btest\b.*\btrain$", shown, re.MULTILINE)
        assert bool(re.search(f"finished.* 0 steps.*{re.escape(str(workdir))}", shown)) == finished

    assert main(["embed", "--workdir", str(workdir), "--out", str(out)]) == 0
    assert "120 x 4" in capsys.readouterr().out
    expected = open_run(workdir).embed(open_source(workdir, None)[1].splits["train"])
    assert expected.a.shape == (40, 64)
    with np.load(out) as found:
        assert (found["image"].shape, found["text"].shape) == ((60, 4), (120, 4))
        np.testing.assert_allclose(found["image"][:40] @ found["text"][:80].T, expected.a @ expected.b.T, atol=1e-6)
    np.save(tmp_path / "x.npy", arrays["image"])
    assert main(["embed", "--workdir", str(workdir), "--data", f"latents:{tmp_path / 'x.npy'}", "--out", str(out)]) == 0
    with np.load(out) as found:
        assert found["image"].shape == (60, 4)
