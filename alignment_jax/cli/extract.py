"""`alignment-jax extract`: latents of frozen encoders, in the format of `embeddings:`."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags

from alignment_jax import data
from alignment_jax import extract as frozen
from alignment_jax.cli import common
from alignment_jax.cli.extract_progress import ExtractProgress
from alignment_jax.core.errors import UserError


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    del arguments
    text, number, switch = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_bool
    kinds = "hf:NAME_OR_PATH, st:NAME_OR_PATH, torch:NAME_OR_PATH or onnx:FILE"
    text("data", None, "SPEC of images and texts.", flag_values=values)
    text("prompts", None, "Text file of class names and templates, to encode instead of --data.", flag_values=values)
    text("image_encoder", None, "hf:NAME_OR_PATH, torch:NAME_OR_PATH or onnx:FILE.", flag_values=values)
    text("text_encoder", None, f"{kinds}.", flag_values=values)
    text("out", None, "The .npz file to write, or a folder for shards that need not fit in memory.", flag_values=values)
    text("views", "", "Additional views of every image: flip, crops or flip,crops.", flag_values=values)
    text("image_pooling", "auto", "Pooling of image tokens: auto, cls, mean or pooler.", flag_values=values)
    text("text_pooling", "auto", "Pooling of text tokens: auto, cls or mean.", flag_values=values)
    text("text_prefix", "", 'Text before every text, for example "query: " for E5.', flag_values=values)
    text("dtype", "float16", "Type of the stored latents: float16 or float32.", flag_values=values)
    number("batch_size", 64, "Images or texts of a batch, on each device.", flag_values=values)
    number("shard_size", 8192, "Images per shard; a killed extraction repeats at most one shard.", flag_values=values)
    text("device", "auto", "auto (in JAX all devices), or a device such as cpu or cuda:0.", flag_values=values)
    text("compute_dtype", "float32", "In JAX: float32, or bfloat16 for speed on accelerators.", flag_values=values)
    switch("download", False, "Download a model that is not on this machine.", flag_values=values)
    common.define_on_bad_sample(values)
    common.define_processes(values)
    switch("quiet", False, "Show no progress.", flag_values=values)


def run(values: flags.FlagValues) -> int:
    given: dict[str, Any] = {name: values[name].value for name in values}
    for name in ("out", "text_encoder", *(() if given["prompts"] else ("data", "image_encoder"))):
        if not given[name]:
            raise UserError(f"--{name} is missing (see alignment-jax extract --help)")
    out = pathlib.Path(given["out"]).expanduser()
    shared: dict[str, Any] = {"device": given["device"], "download": given["download"]}
    shared["compute_dtype"] = given["compute_dtype"]
    text_options = frozen.Options(pooling=given["text_pooling"], prefix=given["text_prefix"], **shared)
    if given["prompts"]:
        if given["data"] or given["image_encoder"]:
            raise UserError("--prompts: leave out --data and --image_encoder")
        if given["num_processes"] or given["distributed"]:
            raise UserError("--prompts: one process encodes them; leave out --num_processes and --distributed")
        prompts = data.load_prompts(pathlib.Path(given["prompts"]).expanduser())
        encoder = frozen.open_encoder(given["text_encoder"], side="text", options=text_options)
        _show_notes(encoder)
        show = ExtractProgress(quiet=given["quiet"])
        frozen.extract_prompts(prompts, encoder, out, batch_size=given["batch_size"], on_progress=show)
        print(f"{out}: {len(prompts.class_of)} prompts of {len(prompts.classes)} classes")
        return 0
    settings = frozen.ExtractSettings(
        views=given["views"], dtype=given["dtype"], batch_size=given["batch_size"], shard_size=given["shard_size"]
    )
    share = frozen.Share()
    if given["num_processes"] or given["distributed"]:
        common.start_processes(values)
        share = frozen.Share(jax.process_index(), jax.process_count())
    source = data.load(given["data"], on_bad_sample=given["on_bad_sample"])
    source = data.complete_samples(source, on_bad_sample=given["on_bad_sample"])
    for line in (*source.notes, *source.problems):
        print(line)
    image = frozen.open_encoder(
        given["image_encoder"], side="image", options=frozen.Options(pooling=given["image_pooling"], **shared)
    )
    text = frozen.open_encoder(given["text_encoder"], side="text", options=text_options)
    _show_notes(image, text)
    show = ExtractProgress(quiet=given["quiet"])
    frozen.extract(source, image, text, out, settings, share=share, on_progress=show)
    if not share.first:
        return 0
    split = next(iter(data.load(f"embeddings:{out}").splits.values()))
    widths = {name: column.array.shape[1] for name, column in (("image", split.a), ("text", split.b))}  # type: ignore
    counts = [sum(len(getattr(split, side)) for split in source.splits.values()) for side in "ab"]
    print(f"{out}: image {counts[0]} x {widths['image']}, text {counts[1]} x {widths['text']}, {settings.dtype}")
    print(f"train on it with data=embeddings:{out}")
    return 0


def _show_notes(*encoders: frozen.Encoder) -> None:
    for encoder in encoders:
        for line in encoder.notes:
            print(line)
