"""The trainer's side of `finetune.py`: checkpoints, batches, and the step that `train` runs.

python benchmarks/finetune_jax.py prepare CASE TUNE FOLDER    # writes checkpoint and start.npz
python benchmarks/finetune_jax.py serve CASE TUNE FOLDER      # takes turns, see `turns.serve`
"""

from __future__ import annotations

import itertools
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from finetune import BATCHES, CASES, COMPILED, Case
from turns import resident, serve

from alignment_jax import config as configs
from alignment_jax import data
from alignment_jax.assembly.build import build
from alignment_jax.core.nested import flatten
from alignment_jax.core.types import Batch
from alignment_jax.models.pretrained import FAMILIES, random_folder
from alignment_jax.train.batching import batch_rows
from alignment_jax.train.experiment import Experiment
from alignment_jax.train.start import initial_state, placed_initial_state, placement_of
from alignment_jax.train.step import SingleSteps

SPECIAL = ("[PAD]", "[UNK]", "[CLS]")


def tokenizer(vocabulary: int) -> dict[str, Any]:
    """tokenizer.json of the words w3, w4, ..., each its number; the last word ends a text, as in CLIP."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    end = f"w{vocabulary - 1}"
    words = {name: k for k, name in enumerate([*SPECIAL, *(f"w{k}" for k in range(len(SPECIAL), vocabulary))])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single=f"[CLS] $A {end}", special_tokens=[("[CLS]", 2), (end, vocabulary - 1)]
    )
    return json.loads(made.to_str())


def source_of(case: Case) -> data.PairSource:
    """Random items; texts of a third of `case.tokens` and more, the first of every split of full length."""
    rng = np.random.default_rng(0)

    def text(words: int) -> str:
        return " ".join(f"w{k}" for k in rng.integers(len(SPECIAL), case.vocabulary - 1, words))

    def split(n: int) -> data.PairSplit:
        longest = case.tokens - 2
        texts = [text(longest if k % case.batch == 0 else rng.integers(longest // 3, longest + 1)) for k in range(n)]
        if case.latents:
            a = data.ArrayColumn(rng.standard_normal((n, case.latents), dtype=np.float32))
        else:
            pixels = rng.integers(0, 256, (n, case.pixels, case.pixels, 3), np.uint8)
            a = data.ArrayColumn(pixels, kind="image", name="images")
        numbers = np.arange(n)
        return data.PairSplit(a=a, b=data.TextColumn(texts), b_to_a=numbers.astype(np.int32), ids=numbers.astype(str))

    splits = {"train": split(BATCHES * case.batch), "val": split(case.batch)}
    return data.PairSource("random", "random", splits, modalities=("image", "text"))


def experiment_of(case: Case, tune: str, folder: pathlib.Path) -> Experiment:
    """Of configs/finetune.py, with equal rates of all layers and steps."""
    image = "latents" if case.latents else f"hf:{folder}"
    text = f"{'st' if case.latents else 'hf'}:{folder}"
    config = configs.load(f"finetune.py:image={image},text={text},tune={tune},init=random")
    with config.unlocked():
        config.update_from_flattened_dict(
            {
                "input.batch_size": case.batch,
                "input.max_length": case.tokens,
                "optimizer.schedule": "constant",
                "optimizer.warmup": "0 steps",
                "optimizer.layer_decay": 1.0,
                "train.devices": 1,
                "train.interpolate": "none",
            }
        )
    return build(config, source=source_of(case)).experiment


def batches_of(experiment: Experiment) -> Iterator[Batch]:
    """Those of the first epoch, over and over."""
    rows = batch_rows(experiment.sampler.order({}, 0), batch_size=experiment.batch_size, devices=1)
    return itertools.cycle(list(experiment.batches(rows, 0, 0)))


def prepare(case: Case, tune: str, folder: pathlib.Path) -> None:
    """The checkpoint; start.npz with batches, random parameters by PyTorch's names, settings of the optimizer; sizes of
    the compiled step.
    """
    files = {"tokenizer": tokenizer(case.vocabulary), "tokenizer_config": {"pad_token": SPECIAL[0]}}
    if not case.latents:
        files["preprocessor_config"] = {"image_processor_type": "CLIPImageProcessor"}
    random_folder(folder, case.config, files=files)
    experiment = experiment_of(case, tune, folder)
    found: dict[str, Any] = {}
    for number, batch in enumerate(itertools.islice(batches_of(experiment), BATCHES)):
        assert bool(np.all(batch["where"]))
        found |= {f"batch{number}/{side}": np.asarray(batch[side]) for side in "ab"}
    names = {one.path: one.name for one in FAMILIES[case.config["model_type"]].weights(case.config)}
    params = initial_state(experiment).params
    for path, leaf in flatten(params):
        if path.endswith(("lora_a", "lora_b")):
            tower, _, rest = path.partition("/tower/")
            both = "" if case.latents else {"encoder_a": "image/", "encoder_b": "text/"}[tower]
            dense, _, kind = rest.rpartition("/")
            name = names[f"{both}{dense}/kernel"].removesuffix(".weight")
            found |= {f"{kind}/{name.format(layer=k)}": np.asarray(one) for k, one in enumerate(leaf)}
        elif path.startswith("project_"):
            found[path] = np.asarray(leaf)
        elif path.startswith("logit_scale"):
            found["log_temperature"] = np.asarray(leaf)
    optimizer = experiment.config["optimizer"]
    found |= {name: np.float64(optimizer[name]) for name in ("learning_rate", "weight_decay", "clip", "b1", "b2")}
    np.savez(folder / "start.npz", **found)
    placement = placement_of(experiment)
    memory = placement.lower(initial_state(experiment), next(batches_of(experiment))).compile().memory_analysis()
    kinds = {"arguments": "argument", "outputs": "output", "aliased": "alias", "temporary": "temp"}
    sizes = {name: getattr(memory, f"{kind}_size_in_bytes") for name, kind in kinds.items()}
    (folder / COMPILED).write_text(json.dumps(sizes))


def take_turns(case: Case, tune: str, folder: pathlib.Path) -> None:
    libraries = resident()
    experiment = experiment_of(case, tune, folder)
    placement = placement_of(experiment)
    state = placed_initial_state(experiment, placement)
    steps, batches = SingleSteps(placement), batches_of(experiment)

    def run(count: int) -> list[list[float]]:
        nonlocal state
        found = []
        for batch in itertools.islice(batches, count):
            state, metrics = steps(state, [batch])
            found.append((metrics["loss"], metrics["gradient_norm"]))
        jax.block_until_ready(state)
        return [[float(loss), float(norm)] for loss, norm in found]

    serve({"libraries": libraries, "trained": count_of(state.params), "steps": run(BATCHES)}, run)


def count_of(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
    what, name, tuned, where = sys.argv[1:]
    {"prepare": prepare, "serve": take_turns}[what](CASES[name], tuned, pathlib.Path(where))
