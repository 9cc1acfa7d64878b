"""The encoders of a trained model as plain values: a function, tensors by name, and the arithmetic of adapters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax import models
from alignment_jax.assembly.checkpoint_inputs import checkpoint_encoders, checkpoint_images
from alignment_jax.assembly.modality_checks import with_vocabulary
from alignment_jax.assembly.saved_run import INPUT_DTYPES
from alignment_jax.assembly.tasks import task_of
from alignment_jax.assembly.tuned_parameters import merged_variables
from alignment_jax.assembly.weighted_cosine import WEIGHTS
from alignment_jax.core.errors import UserError
from alignment_jax.core.nested import flatten_config
from alignment_jax.inference.trained_model import TrainedModel
from alignment_jax.train.state import FROZEN

ADAPTERS = "adapters"


@dataclasses.dataclass(frozen=True)
class SideEncoder:
    """The encoder of one side.

    Attributes:
      kind: of its items: "embedding", "image", "text" or "audio".
      shape: of one item.
      dtype: of the items.
      embed: items [n, *shape] -> vectors [n, dim], float32, as `alignment-jax embed` writes them.
      dim: of the vectors.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype
    embed: Callable[[Any], jax.Array]
    dim: int


def side_encoders(trained: TrainedModel) -> dict[str, SideEncoder]:
    """The encoders of both sides.

    Raises:
      UserError: the run is a classifier.
    """
    if not task_of(trained.config.model).aligns:
        raise UserError(
            f"a run of model {trained.config.model.name} classifies and has no encoders of two sides; export a run of "
            "adapters or two_tower"
        )
    return {
        side: _side_encoder(trained, side, encode)
        for side, encode in (("a", trained.model.encode_a), ("b", trained.model.encode_b))
    }


def _side_encoder(trained: TrainedModel, side: str, encode: Any) -> SideEncoder:
    variables, reads = merged_variables(trained.variables), trained.reads[side]

    def embed(items: Any) -> jax.Array:
        z: Any = encode(variables["params"], variables["model_state"], items)
        return jnp.asarray(trained.drop_unused(z))

    shape, dtype = tuple(reads["shape"]), np.dtype(INPUT_DTYPES.get(reads["kind"], np.float32))
    dim = jax.eval_shape(embed, jax.ShapeDtypeStruct((1, *shape), dtype)).shape[1]
    return SideEncoder(reads["kind"], shape, dtype, embed, dim)


def tensors(trained: TrainedModel) -> dict[str, np.ndarray]:
    """Parameters and running statistics by dotted name, as in "a.project.kernel".

    Output dimensions that are 0 for every input are cut off, and the weights of a weighted cosine are divided by the
    largest.
    """
    variables = jax.tree.map(np.asarray, merged_variables(trained.variables))
    state = {name: value for name, value in variables["model_state"].items() if name != FROZEN}
    found = {**flatten_config(variables["params"]), **flatten_config(state)}
    used = models.used_dimensions(variables["params"])
    if WEIGHTS in found:
        found[WEIGHTS] = found[WEIGHTS] / np.max(found[WEIGHTS])
    if used is not None:
        cut = {WEIGHTS, *(f"{side}.project.{part}" for side in "ab" for part in ("kernel", "bias"))}
        found |= {name: found[name][..., used] for name in cut & found.keys()}
    return found


def model_section(trained: TrainedModel) -> dict[str, Any]:
    """The arguments of `models.build_model` for these tensors."""
    tokenizer, length = trained.inputs.tokenizer, trained.config.input.max_length
    section = with_vocabulary(trained.config.model.to_dict(), tokenizer, length)
    used = models.used_dimensions(trained.variables["params"])
    return section if used is None else {**section, "dim": int(used.sum())}


def adapter_steps(trained: TrainedModel, side: str) -> list[dict[str, Any]] | None:
    """The arithmetic of one adapter, operation by operation; None for other models.

    Each operation has a name, `op`, and the names of its `tensors`:
      l2_normalize: x / |x|, 0 for 0.
      layer_norm: (x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis.
      dense: x @ kernel + bias.
      gelu: x / 2 * (1 + erf(x / sqrt(2))).
      residual: x + what `steps` make of x.
      weighted_cosine: y = x * sqrt(weights), then sqrt(1 - |y|²) and 0 as two more dimensions of side a, 0 and it of b.
    """
    model = trained.config.model
    if model.name != ADAPTERS:
        return None

    def step(op: str, module: str = "", *parts: str, **more: Any) -> dict[str, Any]:
        named = {"tensors": {part: f"{side}.{module}.{part}" for part in parts}} if parts else {}
        return {"op": op, **named, **more}

    def norm(module: str) -> dict[str, Any]:
        return step("layer_norm", module, "scale", "bias", epsilon=1e-5)

    def dense(module: str) -> dict[str, Any]:
        return step("dense", module, "kernel", "bias")

    steps = [step("l2_normalize")] if model.input_norm == "l2" else []
    for block in (f"block_{k}" for k in range(model[f"blocks_{side}"])):
        inner = [norm(f"{block}.norm"), dense(f"{block}.up"), step("gelu"), dense(f"{block}.down")]
        steps.append(step("residual", steps=inner))
    steps += [norm("norm")] if model.final_norm else []
    steps += [dense("project"), step("l2_normalize")]
    if WEIGHTS in trained.variables["params"]:
        steps.append({"op": "weighted_cosine", "tensors": {"weights": WEIGHTS}, "side": side})
    return steps


def preprocessing(trained: TrainedModel, side: str) -> Mapping[str, Any]:
    """What turns an item into the array that the encoder of a side reads, as plain values."""
    settings, kind = trained.config.input, trained.reads[side]["kind"]
    if (checkpoint := _checkpoint_preprocessing(trained, side)) is not None:
        return checkpoint
    if kind == "image":
        return {
            "color": "RGB",
            "crop": "largest centred square",
            "size": settings.image_size,
            "interpolation": "bilinear",
            "range": [0, 255],
            "pixel_range": settings.get("pixel_range", "auto"),
        }
    if kind == "text":
        tokenizer = trained.inputs.tokenizer
        special = {} if tokenizer is None else {"begin": tokenizer.bos_id, "end": tokenizer.eos_id}
        return {
            "tokenizer": "tokenizer.json",
            "white_space": "single spaces",
            **special,
            "padding": 0,
            "length": settings.max_length,
        }
    if kind == "audio":
        return {"log_mel": trained.config.audio.to_dict()}
    views = {"views": trained.config.eval.get("views", "first")} if side == "a" else {}
    return {"encoder": "the one that made the latents of the training data", **views}


def _checkpoint_preprocessing(trained: TrainedModel, side: str) -> Mapping[str, Any] | None:
    """That of the checkpoint that an encoder started from; None for other encoders."""
    model = trained.config.model
    if not any(one.option == f"encoder_{side}" for one in checkpoint_encoders(model)):
        return None
    if trained.reads[side]["kind"] == "image":
        images = checkpoint_images(model)
        assert images is not None
        return {"color": "RGB", **dataclasses.asdict(images)}
    tokenizer = trained.inputs.tokenizer
    return {
        "tokenizer": "tokenizer.json",
        "prefix": tokenizer.prefix,
        "padding": tokenizer.pad_id,
        "length": trained.config.input.max_length,
    }
