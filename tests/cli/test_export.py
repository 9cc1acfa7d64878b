"""`export`: the files give the vectors of the run, without the run and without this package."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import load_file

from alignment_jax import data, models
from alignment_jax.assembly.model_functions import build_model_functions
from alignment_jax.cli.main import main
from alignment_jax.config.defaults import fusion_classifier
from alignment_jax.core.errors import UserError
from alignment_jax.inference.exported_encoders import adapter_steps, model_section, side_encoders, tensors
from alignment_jax.inference.trained_model import open_run, open_source

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "use_a_run.md"
# A few hundred roundings of float32 in numbers below one, in another order of summation.
ROUNDING = 256 * 2.0**-24


def export(workdir, out, *more):
    return main(["export", "--workdir", str(workdir), "--out", str(out), *more])


def expected(workdir):
    """(prepared items, vectors) of the test split, by side."""
    trained = open_run(workdir)
    split = open_source(workdir, None)[1].splits["test"]
    embedded = trained.embed(split)
    prepared = trained.inputs.prepared(split)
    found = {}
    for side, column, z in (("a", prepared.a, embedded.a), ("b", prepared.b, embedded.b)):
        transform = None if isinstance(column, data.ArrayColumn) else trained.inputs.evaluate[side]
        ((items, where),) = data.iterate_items(column, transform, len(column), threads=1)
        found[side] = items[where], trained.drop_unused(z)
    return found


@pytest.fixture(scope="module")
def exported(frozen_run, tmp_path_factory):
    """Of the run on latents, in both formats."""
    out = tmp_path_factory.mktemp("exported") / "frozen"
    assert export(frozen_run[0], out, "--format=safetensors,stablehlo", "--license=apache-2.0") == 0
    return out


@pytest.fixture(scope="module")
def exported_towers(raw_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "raw"
    assert export(raw_run[0], out, "--format=safetensors,stablehlo") == 0
    return out


def of_the_page(name):
    """A function of the documentation."""
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M):
        exec(block, names)
    return names[name]


def test_numpy_computes_the_vectors_of_adapters(frozen_run, exported):
    for side, (items, vectors) in expected(frozen_run[0]).items():
        np.testing.assert_allclose(of_the_page("numpy_encoder")(exported, side)(items), vectors, atol=ROUNDING)


@pytest.mark.costly
@pytest.mark.parametrize("form", ["blocks", "few dimensions", "weighted cosine"])
def test_every_operation_of_adapters_is_described(form, frozen_run):
    """On random parameters: of residual blocks, and as closed forms of fewer dimensions than `model.dim` leave them."""
    trained = open_run(frozen_run[0])
    config, weighted = ConfigDict(trained.config.to_dict()), form == "weighted cosine"
    blocks = {"blocks_a": 2, "blocks_b": 1, "final_norm": True, "input_norm": "l2", "zero_init": False}
    config.model.update(blocks if form == "blocks" else {"blocks_a": 0, "blocks_b": 0, "final_norm": False}, dim=8)
    model = build_model_functions(config.model, config.temperature, logit_scale={}, weighted=weighted)
    items = {side: np.random.default_rng(k).normal(size=(5, d)) for k, (side, d) in enumerate((("a", 12), ("b", 10)))}
    params, model_state = model.init(jax.random.key(0), *items.values())
    if form != "blocks":
        params |= {side: jax.tree.map(lambda x: x.at[..., 6:].set(0), params[side]) for side in "ab"}
    if weighted:
        params["cosine_weights"] = jax.numpy.linspace(0.5, 0.1, 8)
    variables = {"params": params, "model_state": model_state}
    trained = dataclasses.replace(trained, config=config, model=model, variables=variables)
    for side, encoder in side_encoders(trained).items():
        assert encoder.dim == {"blocks": 8, "few dimensions": 6, "weighted cosine": 8}[form]  # 6, and 2 that weigh
        assert model_section(trained)["dim"] == (8 if form == "blocks" else 6)
        found = of_the_page("apply")(items[side], adapter_steps(trained, side), tensors(trained))
        np.testing.assert_allclose(found, encoder.embed(items[side]), atol=ROUNDING)


_WITHOUT_THE_PACKAGE = """
import sys
sys.modules["alignment_jax"] = None
import numpy as np
from jax import export
for folder, items in zip(sys.argv[1::2], sys.argv[2::2]):
    for side in "ab":
        embed = export.deserialize(bytearray(open(f"{folder}/{side}.stablehlo", "rb").read())).call
        x = np.load(f"{items}.npz")[side]
        np.save(f"{items}.{side}.npy", np.concatenate([embed(x[:1]), embed(x[1:4]), embed(x[4:])]))
assert not {"flax", "alignment_jax.models"} & sys.modules.keys()
"""


@pytest.mark.slow
def test_compiled_encoders_run_without_this_package(frozen_run, raw_run, exported, exported_towers, tmp_path):
    runs = [(frozen_run[0], exported), (raw_run[0], exported_towers)]
    wanted, arguments = {}, []
    for number, (workdir, folder) in enumerate(runs):
        wanted[number] = expected(workdir)
        np.savez(tmp_path / f"{number}.npz", **{side: items for side, (items, _) in wanted[number].items()})
        arguments += [str(folder), str(tmp_path / str(number))]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": ""}
    command = [sys.executable, "-c", _WITHOUT_THE_PACKAGE, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for number, sides in wanted.items():
        for side, (_, vectors) in sides.items():
            np.testing.assert_allclose(np.load(tmp_path / f"{number}.{side}.npy"), vectors, atol=4 * ROUNDING)


@pytest.mark.slow
def test_towers_are_rebuilt_from_their_files(raw_run, exported_towers):
    about = json.loads((exported_towers / "model.json").read_text())
    stored, params = load_file(exported_towers / about["tensors"]), {}
    trained = open_run(raw_run[0])
    for path, leaf in jax.tree_util.tree_leaves_with_path(trained.variables["params"]):
        name = ".".join(part.key for part in path)
        np.testing.assert_array_equal(stored[name], leaf)
        inner = params
        for part in path[:-1]:
            inner = inner.setdefault(part.key, {})
        inner[path[-1].key] = stored[name]
    model = models.build_model(**about["model"])
    items, vectors = expected(raw_run[0])["b"]
    np.testing.assert_allclose(model.apply({"params": params}, items, method="encode_b"), vectors, atol=4 * ROUNDING)
    tokenizer = data.Tokenizer.load(exported_towers / "tokenizer.json")
    reads = about["sides"]["b"]
    assert reads["input"] == {"shape": ["n", reads["preprocessing"]["length"]], "dtype": "int32"}
    np.testing.assert_array_equal(
        tokenizer.encode(["a red square"], 8), trained.inputs.tokenizer.encode(["a red square"], 8)
    )
    assert about["sides"]["a"]["input"] == {"shape": ["n", 16, 16, 3], "dtype": "uint8"}


def test_the_card_and_the_description(frozen_run, embeddings, exported):
    card, about = (exported / "README.md").read_text(), json.loads((exported / "model.json").read_text())
    assert {path.name for path in exported.iterdir()} == {
        "README.md", "model.json", "model.safetensors", "a.stablehlo", "b.stablehlo",
    }  # fmt: skip
    assert card.startswith('---\nlicense: "apache-2.0"\n')
    results = json.loads((frozen_run[0] / "results.json").read_text())
    assert about["results"]["test"] == pytest.approx(results["test"])
    assert f"{results['test']['rsum']:.1f}" in card
    assert about["sides"]["b"]["modality"] == "text"
    assert about["settings"]["optimizer"]["learning_rate"] == 0.01
    assert "| optimizer.learning_rate | 0.01 |" in card
    assert "search" not in card
    # Nothing of this machine: the folder of the data, the workdir.
    assert about["settings"]["data"] == f"embeddings:{embeddings.name}"
    for private in (str(embeddings.parent), str(frozen_run[0])):
        assert private not in card + json.dumps(about)


def test_the_encoders_of_latents_are_named(frozen_run, tmp_path):
    run = shutil.copytree(frozen_run[0], tmp_path / "run")
    reads = json.loads((run / "inputs.json").read_text())
    record = {"name": "st:/somewhere/minilm", "weights": "ab12", "pooling": "mean", "prefix": ""}
    (run / "inputs.json").write_text(json.dumps({**reads, "encoders": {"b": record}}))
    assert export(run, tmp_path / "out") == 0
    sides = json.loads((tmp_path / "out" / "model.json").read_text())["sides"]
    assert sides["b"]["encoder"] == {**record, "name": "st:minilm"}
    assert "encoder" not in sides["a"]
    assert "st:minilm" in (tmp_path / "out" / "README.md").read_text()


def test_refusals(frozen_run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for more, parts in (
        (["--out", str(tmp_path / "mine")], ["--out=", "exists"]),
        (["--out", str(tmp_path / "new"), "--format=pickle"], ["--format=pickle", "safetensors"]),
        (["--out", str(tmp_path / "new"), "--format="], ["--format", "safetensors"]),
        ([], ["--out"]),
    ):
        assert main(["export", "--workdir", str(frozen_run[0]), *more]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert all(part in line for part in parts), line
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]
    trained = open_run(frozen_run[0])
    config = ConfigDict(trained.config.to_dict() | {"model": fusion_classifier()})
    with pytest.raises(UserError, match="fusion_classifier"):
        side_encoders(dataclasses.replace(trained, config=config))
