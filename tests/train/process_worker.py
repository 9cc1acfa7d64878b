"""One process of several: the communication between processes, without training."""

import dataclasses
import json
import os
import pathlib
import sys
import time

import jax
import numpy as np
import pytest
from absl import flags

from alignment_jax import baselines, data, evals
from alignment_jax import config as configs
from alignment_jax.assembly import training_moments
from alignment_jax.assembly.build import build
from alignment_jax.assembly.inputs import build_tokenizer
from alignment_jax.assembly.methods import build_objective
from alignment_jax.baselines import device_moments
from alignment_jax.cli import common
from alignment_jax.cli.main import _leave
from alignment_jax.core.errors import AlignmentError, ConfigError, DataError, MissingPackageError, RunError, UserError
from alignment_jax.train import processes
from alignment_jax.train.checkpoint import Checkpoints, abstract, checksums
from alignment_jax.train.evaluation import RetrievalEvaluation
from alignment_jax.train.experiment import EvaluationSplit, Model

build_module = sys.modules["alignment_jax.assembly.build"]
COMPILED = "/jax/core/compile/backend_compile_duration"


def talk(devices, folder):
    number = jax.process_index()
    columns = processes.local_columns(devices, 12).tolist()
    expected = [4 * number, 4 * number + 1, 4 * number + 2, 4 * number + 3]
    assert columns == expected, columns

    def compute():
        assert number == 0, "only the first process computes"
        return {"a": 0.1 + 0.2, "b": float("inf"), "c": "é"}

    assert processes.compute_on_primary(compute) == {"a": 0.1 + 0.2, "b": float("inf"), "c": "é"}

    def fail():
        raise RunError("not finite")

    with pytest.raises(RunError, match=r"^not finite$"):  # on every process
        processes.compute_on_primary(fail)
    for kind in (DataError, ConfigError, MissingPackageError, UserError, AlignmentError):
        with pytest.raises(AlignmentError, match=r"^COCO: row 3$") as raised, processes.convert_jax_errors():
            processes.compute_on_primary(failing(kind("COCO: row 3")))
        assert type(raised.value) is kind
    bits = np.array([-0.0, np.nan, 1e-45], np.float32)
    sent = {"bits": bits, "flag": np.array(True)}
    got = processes.broadcast_arrays(sent if number == 0 else {"bits": 0 * bits, "flag": np.array(False)})
    assert got["bits"].tobytes() == bits.tobytes()
    assert got["flag"].item() is True
    few_programs_for_messages_of_any_length()
    state_is_process_0s(devices)
    sharded_state_is_saved_whole_and_restored(devices, folder / f"sharded{number}")
    what_is_computed_of_the_data_is_process_0s(folder / "made")
    tokenizer_is_process_0s()
    moments_are_shared()
    evaluation_is_shared(devices)
    with pytest.raises(RunError, match=r"process 1 .*data set"):
        build(latents(folder / "others", other=number == 1))  # the same names, other numbers
    processes.check_equal("seed", "same")
    with pytest.raises(RunError, match=r"process 2 .*seed"):
        processes.check_equal("seed", str(number == 2))
    mesh = jax.sharding.Mesh(np.array(devices), ("batch",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    rows = np.arange(12, dtype=np.float32)
    batch = processes.put_local({"x": rows[columns]}, sharding)
    total = jax.jit(lambda x: (x * rows).sum())(batch["x"])
    assert float(total) == (rows**2).sum()
    processes.barrier("end")


def failing(error):
    def compute():
        raise error

    return compute


def few_programs_for_messages_of_any_length():
    """Every evaluation and every save sends one, seldom two of the same length."""
    array = np.arange(5000, dtype=np.int64)
    for size in (0, 1, 500, 900, 1008, 1009, 1500, 2000, 2100, 3000, 5000):
        sent = {"text": "x" * size, "order": array[:size], "bits": [np.float32(-0.0)]}
        got = processes.compute_on_primary(lambda sent=sent: sent)
        assert got["text"] == sent["text"]
        assert got["order"].dtype == np.int64
        assert got["order"].tolist() == array[:size].tolist()
        assert got["bits"][0].tobytes() == np.float32(-0.0).tobytes()
    for power in range(10, 15):
        processes.compute_on_primary(lambda power=power: {"text": "x" * 2**power})
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **more: compiled.append(name) if name == COMPILED else None
    )
    for size in range(0, 2**14, 500):
        processes.compute_on_primary(lambda size=size: {"text": "x" * size})
    assert compiled == []
    jax.jit(lambda x: x + 12345)(np.zeros(3))
    assert compiled != []  # so compilations are counted


def state_is_process_0s(devices):
    number = jax.process_index()
    mesh = jax.sharding.Mesh(np.array(devices), ("batch",))
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    own = {"w": np.float32([-0.0, number]), "step": jax.numpy.int32(number), "key": jax.random.key(number), "none": ()}
    placed = processes.put_from_primary(own, replicated)
    assert {leaf.sharding for leaf in jax.tree.leaves(placed)} == {replicated}
    held = [placed["w"], placed["step"], jax.random.key_data(placed["key"])]
    expected = [np.float32([-0.0, 0]), np.int32(0), jax.random.key_data(jax.random.key(0))]
    for found, wanted in zip(held, expected, strict=True):
        for shard in found.addressable_shards:
            assert np.asarray(shard.data).tobytes() == np.asarray(wanted).tobytes()


def sharded_state_is_saved_whole_and_restored(devices, folder):
    """Process 0 alone has the files; each device gets its rows of them."""
    mesh = jax.sharding.Mesh(np.array(devices), ("batch",))
    replicated, rows = (jax.sharding.NamedSharding(mesh, spec) for spec in (jax.P(), jax.P("batch")))
    shardings = {"w": rows, "key": replicated}
    own = {"w": np.arange(24.0).reshape(12, 2) + jax.process_index(), "key": jax.random.key(jax.process_index())}
    wanted = np.arange(24.0, dtype=np.float32).reshape(12, 2)
    state = processes.put_from_primary({**own, "w": own["w"].astype(np.float32)}, shardings)
    checkpoints = Checkpoints(folder.absolute())
    checkpoints.save(1, state, {})
    checkpoints.wait()
    assert folder.exists() == processes.is_primary()
    for target in (shardings, replicated):
        restored = checkpoints.restore(abstract(state, target)).state
        assert restored["w"].sharding.is_equivalent_to(rows if target is shardings else replicated, 2)
        for shard in restored["w"].addressable_shards:
            np.testing.assert_array_equal(shard.data, wanted[shard.index])
        np.testing.assert_array_equal(jax.random.key_data(restored["key"]), jax.random.key_data(jax.random.key(0)))
    whole = processes.replicate(state)
    np.testing.assert_array_equal(whole["w"].addressable_data(0), wanted)
    checkpoints.close()


def latents(folder, *, other=False):
    """A small set of latents in a file of this process: the same in all of them, or with other numbers."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{jax.process_index()}.npz"
    rng = np.random.default_rng(0)
    image, text = (rng.normal(size=(40, d)).astype(np.float32) + other for d in (6, 5))
    np.savez(file, image=image, text=text, split=np.array((["train"] * 6 + ["val", "test"]) * 5))
    config = configs.default()
    config.data = f"embeddings:{file}"
    config.model.dim = 4
    config.model.final_norm = False
    config.init.name, config.init.shrinkage, config.init.dim, config.init.power = "cca", "0.5", "4", "0.5"
    config.perturb.sigma, config.perturb.relative = 0.1, True
    config.weighting.signal, config.clusters.source = "variance", "kmeans"
    config.temperature.schedule = "mm_ts"
    return config


def what_is_computed_of_the_data_is_process_0s(folder):
    """The closed form, K-Means and standard deviations come out otherwise on the machine of another process."""
    number = jax.process_index()
    scale = 1.0 + number

    def off(fit):
        def fitted(*arguments, **options):
            a, b = fit(*arguments, **options)
            return tuple(dataclasses.replace(found, matrix=found.matrix * scale + number) for found in (a, b))

        return fitted

    with pytest.MonkeyPatch.context() as here:
        here.setattr(baselines, "fit_cca_to_moments", off(baselines.fit_cca_to_moments))
        std, clustered = np.std, data.cluster_sizes
        here.setattr(np, "std", lambda *arguments, **options: std(*arguments, **options) * scale)
        here.setattr(data, "cluster_sizes", lambda *a, **o: scaled(clustered(*a, **o), scale))
        seen = {}
        here.setattr(build_module, "build_objective", lambda **o: seen.update(o) or build_objective(**o))
        built = build(latents(folder))
    params = built.experiment.model.init(jax.random.key(0), *built.experiment.first_batch)[0]
    scales = seen["latent_scales"]
    computed = checksums({"params": params, "scales": (scales.a, scales.b), "stat": built.splits["train"].cluster_size})
    assert seen["cluster_range"][0] < seen["cluster_range"][1]
    processes.check_equal("start, scale or cluster size", json.dumps([computed, seen["cluster_range"]], sort_keys=True))


def tokenizer_is_process_0s():
    """Only process 0 has the saved tokenizer; training it again would give another one."""
    number = jax.process_index()
    captions = data.TextColumn(("a dog", "a cat", "a dog and a cat") * 4)
    train = data.PairSplit(captions, captions, np.arange(12), ids=np.arange(12).astype(str))
    learn = data.train_tokenizer
    with pytest.MonkeyPatch.context() as here:
        here.setattr(data, "train_tokenizer", lambda texts, **o: learn([f"{t} {number}" * 9 for t in texts], **o))
        config = configs.default()
        found = build_tokenizer(config.model, train, vocab_size=config.input.vocab_size, saved=None)
    processes.check_equal("tokenizer", found.to_text())
    assert found.decode(found.encode(["a dog"], 8)) == ["a dog"]


def moments_are_shared():
    """Every process reads a part of the training pairs; all get the moments of all pairs, or the error of one."""
    rng, number, read = np.random.default_rng(0), jax.process_index(), []
    b = rng.normal(size=(20, 4)).astype(np.float32)
    a = b[::2, :3] + 100.0
    a_column, b_column = (data.ArrayColumn(z) for z in (a, b))
    train = data.PairSplit(a_column, b_column, np.repeat(np.arange(10), 2), ids=np.arange(10).astype(str))
    original = data.ArrayColumn.read
    with pytest.MonkeyPatch.context() as here:
        here.setattr(training_moments, "MAX_TRAINING_ITEMS", 9)
        here.setattr(device_moments, "CHUNK", 4)
        here.setattr(
            data.ArrayColumn, "read", lambda self, rows: (read.append(len(rows)), original(self, np.asarray(rows)))[1]
        )
        found = training_moments.training_moments(train, "none", seed=0)
        assert read == [[4, 4, 4, 4], [4, 4, 4, 4], [4, 4]][number]
        b[18, 1] = np.nan
        with pytest.raises(DataError, match=r"train.* pairs 16 to 19"):
            training_moments.training_moments(train, "none", seed=0)
        b[18, 1] = 0.0
    expected = baselines.paired_moments(a, np.nan_to_num(b), b_to_a=train.b_to_a)
    processes.check_equal("moments", found.c_ab.tobytes().hex())
    assert found.count == 20
    np.testing.assert_allclose(found.mean_a, expected.mean_a, rtol=1e-6)


def evaluation_is_shared(devices):
    """Every process reads a part of the batches and gets the result of one device; one without batches has no part."""
    rng, number = np.random.default_rng(0), jax.process_index()
    params = {"w": jax.numpy.asarray(rng.normal(size=(6, 9)).astype(np.float32))}
    mesh = jax.sharding.Mesh(np.array(devices), ("batch",))
    replicated = processes.put_from_primary({"params": params, "model_state": {}}, jax.NamedSharding(mesh, jax.P()))
    model = Model(init=None, apply=None, encode_a=encode, encode_b=encode)
    a, b = (rng.normal(size=(n, 6)).astype(np.float32) for n in (1500, 2300))
    read = {"a": [], "b": []}

    def items(side, column):
        def batches(part=(0, 1)):
            for rows, where in data.iterate_items(data.ArrayColumn(column), None, 1400, part=part):
                read[side].append(int(where.sum()))
                yield rows, where

        return batches

    split = EvaluationSplit(items("a", a), items("b", b), rng.integers(0, 1500, size=2300))
    evaluation = RetrievalEvaluation(model, devices=devices)
    found = evaluation.embed(replicated, split, everywhere=True)
    assert read == {"a": [[1400], [100], []][number], "b": [[1400], [900], []][number]}
    one = RetrievalEvaluation(model, devices=jax.local_devices()[:1])
    alone = one.embed(replicated, split)
    for got, wanted in zip((found.a, found.b, *found.ranks), (alone.a, alone.b, *alone.ranks), strict=True):
        np.testing.assert_array_equal(got, wanted)
    metrics = evaluation.evaluate_for_log(replicated, split)
    assert metrics == one.measure(alone, split) | evals.collapse_metrics(alone)

    def unreadable(part=(0, 1)):
        raise DataError(f"photos.csv, row {part[0]}")
        yield

    broken = dataclasses.replace(
        split, items_b=lambda part=(0, 1): (unreadable if part[0] == 1 else split.items_b)(part)
    )
    with pytest.raises(DataError, match=r"^photos.csv, row 1$"):  # on every process
        evaluation.evaluate_for_log(replicated, broken)


def encode(params, model_state, x):
    return jax.numpy.tanh(x @ params["w"])


def scaled(sizes, scale):
    changed = {name: getattr(sizes, name) * scale for name in ("size", "min_size", "max_size")}
    return dataclasses.replace(sizes, **changed)


def main(arguments):
    mode, *rest = arguments
    mode, _, folder = mode.partition("=")
    values = flags.FlagValues()
    common.define_processes(values)
    values(["worker", *rest])
    common.start_processes(values)
    print("joined", flush=True)
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if mode == "talk":
        talk(devices, pathlib.Path(folder))
    while mode == "meet":  # until a process ends
        with processes.convert_jax_errors():
            processes.barrier("step")
        print("met", flush=True)
        time.sleep(0.01)
    if mode == "idle":
        time.sleep(1000)
    print("good", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RunError as failure:
        print(f"error: {failure}", file=sys.stderr)
        _leave(failure.exit_status)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(3)
