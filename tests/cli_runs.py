"""Small data sets and one finished run of each kind, made once."""

import numpy as np
import pytest

from alignment_jax.cli.main import main


def write_embeddings(path, *, n=60, captions=2, seed=0, split=True):
    """Latents of two modalities that share a hidden code, in the documented format."""
    rng = np.random.default_rng(seed)
    # The two maps are the world's, not the sample's: only the codes change with the seed.
    to_image, to_text = (np.random.default_rng(k).normal(size=(6, d)) for k, d in ((1, 12), (2, 10)))
    code = rng.normal(size=(n, 6))
    owner = np.repeat(np.arange(n), captions)
    arrays = {
        "image": (code @ to_image + 0.1 * rng.normal(size=(n, 12))).astype(np.float16),
        "text": (code[owner] @ to_text + 0.1 * rng.normal(size=(n * captions, 10))).astype(np.float16),
        "text_to_image": owner.astype(np.int32),
        "image_id": np.array([f"item {seed}/{i}" for i in range(n)]),
        "caption": np.array([f"caption <{j}> of {i}" for j, i in enumerate(owner)]),
    }
    if split:
        arrays["split"] = np.array((["train"] * 4 + ["val", "test"]) * (n // 6))
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def embeddings(tmp_path_factory):
    return write_embeddings(tmp_path_factory.mktemp("data") / "pairs.npz")


FAST = ("--quiet", "--config.input.batch_size=16", "--config.train.devices=1", "--config.report.gallery=4")


@pytest.fixture(scope="session")
def frozen_run(tmp_path_factory, embeddings, repository):
    """A finished run on latents: (workdir, arguments that made it)."""
    workdir = tmp_path_factory.mktemp("runs") / "frozen"
    config = f"{repository}/configs/flickr8k_frozen.py:runlocal,method=baseline,data=embeddings:{embeddings}"
    arguments = ["train", "--config", config, "--workdir", str(workdir), *FAST, "--config.train.duration=40 epochs"]
    arguments += ["--config.eval.interval=10 epochs", "--config.optimizer.learning_rate=0.01"]
    assert main(arguments) == 0
    return workdir, arguments


@pytest.fixture(scope="session")
def raw_run(tmp_path_factory, repository):
    """A finished run on pixels and words."""
    workdir = tmp_path_factory.mktemp("runs") / "raw"
    config = f"{repository}/configs/quickstart.py:runlocal,data=synthetic:train=64,val=24,test=24,size=16"
    arguments = ["train", "--config", config, "--workdir", str(workdir), *FAST]
    arguments += ["--config.input.image_size=16", "--config.train.duration=2 epochs"]
    arguments += ["--config.model.encoder_a.widths=(8, 16)", "--config.model.encoder_b.depth=1"]
    assert main(arguments) == 0
    return workdir, arguments
