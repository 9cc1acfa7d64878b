"""How far `models.pretrained` is from transformers: tiny random checkpoints of every family, float32.

    python benchmarks/pretrained_parity.py --out benchmarks/results/pretrained_parity.md

Outputs: the largest difference over the largest value, of last hidden states, embeddings and logits, also at another
image size. Gradients: of a random weighting of all outputs, the same for each parameter tensor, where tensors whose
gradient is below a thousandth of the largest one count as that. The gradient of keys' biases is 0 but for rounding,
because softmax ignores what is added to all scores of a query: theirs are relative to the largest gradient.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.nested import flatten
from alignment_jax.models import pretrained

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
LAYERS = {**SIZES, "intermediate_size": 24}
IMAGE = {"image_size": 28, "patch_size": 7}
WORDS = {"vocab_size": 20, "max_position_embeddings": 12, "bos_token_id": 18, "eos_token_id": 19}
OTHER_SIZE = (42, 21)  # pixels: six by three patches instead of four by four


@dataclasses.dataclass(frozen=True)
class Case:
    """A checkpoint to compare: `make` gets transformers; `stands_for` are published ones of the same form."""

    make: Callable[[Any], Any]
    stands_for: str


def _clip(hf: Any, **changes: Any) -> Any:
    text, vision = {**LAYERS, **WORDS, **changes}, {**LAYERS, **IMAGE, **changes}
    vision.pop("eos_token_id", None)
    return hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))


def _siglip(hf: Any, **changes: Any) -> Any:
    text, vision = {**LAYERS, **WORDS, **changes}, {**LAYERS, **IMAGE}
    return hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=vision))


CASES = {
    "CLIP": Case(_clip, "openai/clip-vit-base-patch32"),
    "CLIP, GELU, first end token": Case(
        lambda hf: _clip(hf, hidden_act="gelu", eos_token_id=2), "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    ),
    "CLIP, image tower": Case(
        lambda hf: hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**LAYERS, **IMAGE, projection_dim=8)),
        "its tower",
    ),
    "CLIP, text tower": Case(
        lambda hf: hf.CLIPTextModelWithProjection(hf.CLIPTextConfig(**LAYERS, **WORDS, projection_dim=8)), "its tower"
    ),
    "SigLIP": Case(_siglip, "google/siglip-base-patch16-224"),
    "SigLIP 2": Case(
        lambda hf: _siglip(hf, vocab_size=40, projection_size=16), "google/siglip2-base-patch16-224 (fixed resolution)"
    ),
    "SigLIP, image tower": Case(lambda hf: hf.SiglipVisionModel(hf.SiglipVisionConfig(**LAYERS, **IMAGE)), "its tower"),
    "DINOv2": Case(lambda hf: hf.Dinov2Model(hf.Dinov2Config(**SIZES, **IMAGE)), "facebook/dinov2-base"),
    "DINOv2, SwiGLU": Case(
        lambda hf: hf.Dinov2Model(hf.Dinov2Config(**SIZES, **IMAGE, use_swiglu_ffn=True)), "facebook/dinov2-giant"
    ),
    "DINOv2, registers": Case(
        lambda hf: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**SIZES, **IMAGE, num_register_tokens=2)),
        "facebook/dinov2-with-registers-base",
    ),
    "ViT": Case(lambda hf: hf.ViTModel(hf.ViTConfig(**LAYERS, **IMAGE)), "google/vit-base-patch16-224-in21k"),
    "ViT, classifier": Case(
        lambda hf: hf.ViTForImageClassification(hf.ViTConfig(**LAYERS, **IMAGE)), "google/vit-base-patch16-224"
    ),
    "BERT": Case(
        lambda hf: hf.BertModel(hf.BertConfig(**LAYERS, **WORDS)),
        "sentence-transformers/all-MiniLM-L6-v2, BAAI/bge-base-en-v1.5, intfloat/e5-base-v2, thenlper/gte-base",
    ),
    "BERT, masked LM": Case(
        lambda hf: hf.BertForMaskedLM(hf.BertConfig(**LAYERS, **WORDS)), "google-bert/bert-base-uncased"
    ),
    "XLM-RoBERTa": Case(
        lambda hf: hf.XLMRobertaModel(hf.XLMRobertaConfig(**LAYERS, **WORDS, type_vocab_size=1)),
        "intfloat/multilingual-e5-base, BAAI/bge-m3",
    ),
}


def make(name: str, folder: pathlib.Path, *, seed: int = 0) -> Any:
    """A random model of transformers, written to the folder too; no parameter is left at 0 or 1."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = CASES[name].make(transformers).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.3 if parameter.ndim < 2 else parameter.shape[-1] ** -0.5))
    model.save_pretrained(folder)
    return model


def batch(module: Any, size: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """Images of a size, and token ids with padding of two texts, as the module has towers."""
    rng = np.random.default_rng(1)
    made = {}
    if hasattr(module, "encode_image"):
        made["images"] = rng.standard_normal((2, *(size or (28, 28)), 3)).astype(np.float32)
    if hasattr(module, "encode_text"):
        padding = 1 if getattr(module, "spec", None) is not None and module.spec.count_positions else 0
        tokens = rng.integers(3, 19, (2, 9))
        tokens[0, 5], tokens[1, 8] = 19, 19
        made["tokens"], made["mask"] = tokens, np.arange(9) < np.array([[6], [9]])
        made["tokens"][~made["mask"]] = padding
    return made


def ours(module: Any, variables: Any, inputs: dict[str, Any]) -> dict[str, jax.Array]:
    """The outputs to compare, by name."""
    found = module.apply(variables, **inputs)
    if "a" in found:
        scores = found["a"] @ found["b"].T / found["temperature"] + found["bias"]
        return {"image": found["a"], "text": found["b"], "logits": scores}
    last = found["tokens"]
    if "mask" in inputs:
        last = last * jnp.asarray(inputs["mask"])[..., None]
    if module.spec.projection:
        return {"tokens": last, "features": found["features"]}
    if "mask" in inputs and not module.spec.pooler:
        return {"tokens": last}
    return {"tokens": last, "pooled": found["pooled"]}


def theirs(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """The same outputs of transformers."""
    import torch

    given: dict[str, Any] = {}
    if "images" in inputs:
        given["pixel_values"] = torch.tensor(inputs["images"]).permute(0, 3, 1, 2)
        if "dinov2" not in model.config.model_type:
            given["interpolate_pos_encoding"] = True
    if "tokens" in inputs:
        given["input_ids"], given["attention_mask"] = torch.tensor(inputs["tokens"]), torch.tensor(inputs["mask"])
    model = getattr(model, model.base_model_prefix) if hasattr(model, "classifier") or hasattr(model, "cls") else model
    found = model(**given)
    if "logits_per_image" in found:
        return {"image": found.image_embeds, "text": found.text_embeds, "logits": found.logits_per_image}
    last = found.last_hidden_state
    last = last * given["attention_mask"][..., None] if "attention_mask" in given else last
    projected = found.get("image_embeds", found.get("text_embeds"))
    if projected is not None:
        return {"tokens": last, "features": projected}
    if found.pooler_output is None and "input_ids" in given:
        return {"tokens": last}
    return {"tokens": last, "pooled": last[:, 0] if found.pooler_output is None else found.pooler_output}


def difference(found: Any, expected: Any, floor: float = 0.0) -> float:
    """Largest difference over the largest value."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), floor))


def measure(name: str, folder: pathlib.Path, *, resized: bool = True, gradients: bool = True) -> dict[str, float]:
    """{"outputs": ..., "resized": ..., "gradients": ...} of a case; "resized" only of images."""
    import torch

    model = make(name, folder / "model")
    module, variables, _ = pretrained.load(folder / "model")
    inputs = batch(module)
    expected = theirs(model, inputs)
    rng = np.random.default_rng(2)
    weights = {key: rng.standard_normal(value.shape).astype(np.float32) for key, value in expected.items()}

    def scalar(variables: Any) -> tuple[Any, dict[str, jax.Array]]:
        found = ours(module, variables, inputs)
        return sum(jnp.vdot(weights[key], found[key]) for key in weights), found

    if gradients:
        left, found = jax.jit(jax.grad(scalar, has_aux=True))(variables)
    else:
        _, found = jax.jit(scalar)(variables)
    result = {"outputs": max(difference(found[key], expected[key].detach()) for key in weights)}
    if resized and "images" in inputs:
        other = batch(module, OTHER_SIZE)
        with torch.no_grad():
            right = theirs(model, other)
        found = jax.jit(lambda variables: ours(module, variables, other))(variables)
        result["resized"] = max(difference(found[key], right[key]) for key in weights)
    if gradients:
        sum((torch.tensor(weights[key]) * expected[key]).sum() for key in weights).backward()
        result["gradients"] = _gradient_difference(left["params"], model, folder / "gradients")
    return result


def _gradient_difference(found: Any, model: Any, folder: pathlib.Path) -> float:
    """The gradients of transformers, written as a checkpoint, come back in the form of ours."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    model.save_pretrained(folder)
    expected = dict(flatten(pretrained.load(folder).variables["params"]))
    largest = max(float(np.abs(value).max()) for value in expected.values())
    return max(
        difference(value, expected[path], largest if path.endswith("attention/key/bias") else 1e-3 * largest)
        for path, value in flatten(found)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    import torch
    import transformers

    rows = []
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            found = measure(name, pathlib.Path(folder))
        numbers = [f"{found[key]:.0e}" if key in found else "–" for key in ("outputs", "resized", "gradients")]
        rows.append(f"| {name} | {case.stands_for} | {' | '.join(numbers)} |")
        print(rows[-1], flush=True)
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}, jax {jax.__version__}"
    lines = [
        "# Parity with transformers",
        "",
        f"`python benchmarks/pretrained_parity.py`, {versions}, float32 on a CPU.",
        "Tiny random checkpoints of the published ones' form. Numbers: largest difference over the largest value;",
        "of gradients for each parameter tensor, where tensors below a thousandth of the largest count as that.",
        "The gradient of keys' biases is 0 (in float64 below 1e-16 of the largest); float32 leaves rounding on both",
        "sides, which is relative to the largest gradient here.",
        "",
        "| family | same form | outputs | at another image size | gradients |",
        "| :--- | :--- | :--- | :--- | :--- |",
        *rows,
    ]
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
