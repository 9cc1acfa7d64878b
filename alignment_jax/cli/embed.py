"""`alignment-jax embed`: embeds a data set, or one side, into an .npz file, .npy files or Parquet files."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from alignment_jax import data, evals
from alignment_jax.cli import common
from alignment_jax.cli.encoder_flags import define_encoders, encoders_of
from alignment_jax.cli.extract_progress import ExtractProgress
from alignment_jax.cli.hubness_flag import define_hubness, hubness_of
from alignment_jax.core.errors import UserError, one_line
from alignment_jax.core.optional import require
from alignment_jax.core.storage import check_new_folder, new_folder, write_npz_atomic
from alignment_jax.data.array_names import EMBEDDED_BY
from alignment_jax.inference.embedding_record import embedding_record
from alignment_jax.inference.one_side import embed_one_side
from alignment_jax.inference.query_bank import RunHubness
from alignment_jax.inference.trained_model import load_trained, open_run, open_source

NPZ = "npz"
FOLDERS = {"npy": data.write_npy_files, "parquet": data.write_parquet_files}


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    del arguments
    common.define_workdir(values, "Folder or URL of a run.")
    about = "SPEC of the data, or images:, texts:, latents: for one side; by default the data of the run."
    flags.DEFINE_string("data", None, about, flag_values=values)
    define_encoders(values)
    define_hubness(values, "Write vectors with the correction of hubs, for an inner-product index.")
    common.define_on_bad_sample(values, default=None)
    about = "npz: one file; npy: a folder with a file for each array; parquet: a folder with a file for each side."
    flags.DEFINE_enum("format", NPZ, [NPZ, *FOLDERS], about, flag_values=values)
    flags.DEFINE_string("out", None, "The .npz file to write, or the folder to make.", flag_values=values)


def run(values: flags.FlagValues) -> int:
    folder = common.workdir(values)
    out = _out(values)
    spec = values["data"].value
    if spec and data.is_one_side(spec):
        return _one_side(values, folder, spec, out)
    config, source = open_source(folder, spec, on_bad_sample=values["on_bad_sample"].value)
    source = encoders_of(values, folder).source(source, on_progress=ExtractProgress())
    trained = load_trained(folder, config, source)
    hubness = None if values["hubness"].value is None else hubness_of(values, folder, trained)
    for line in (*source.notes, *source.problems, *trained.truncation_notes(source.splits)):
        print(line)
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("image", "text", "text_to_image", "image_id", "caption", "split")
    }
    before = 0
    for name, split in source.splits.items():
        embedded = trained.embed(split)
        if hubness is not None:
            embedded = evals.fold_embeddings(embedded, hubness.bank, hubness.correction)
        parts["image"].append(trained.drop_unused(embedded.a))
        parts["text"].append(trained.drop_unused(embedded.b))
        parts["text_to_image"].append(embedded.b_to_a.astype(np.int32) + before)
        parts["image_id"].append(np.asarray(split.ids, np.str_))
        parts["caption"].append(np.asarray([text[:1000] for text in data.caption_texts(split)], np.str_))
        parts["split"].append(np.full(len(split.a), name))
        before += len(split.a)
    arrays: dict[str, Any] = {name: np.concatenate(chunks) for name, chunks in parts.items()}
    if not source.has_splits:
        del arrays["split"]
    arrays[EMBEDDED_BY] = embedding_record(trained, hubness)
    if values["format"].value == NPZ:
        data.save_embeddings(out, **arrays)
    else:
        _write_folder(values, out, arrays)
    dim = arrays["image"].shape[1]
    print(f"{out}: image {len(arrays['image'])} x {dim}, text {len(arrays['text'])} x {dim}, of step {trained.step}")
    _print_hubness(hubness)
    return 0


def _out(values: flags.FlagValues) -> pathlib.Path:
    """--out, checked before anything is computed."""
    kind = values["format"].value
    if not values["out"].value:
        what = "the file to write, for example --out=embeddings.npz" if kind == NPZ else "the folder to make"
        raise UserError(f"--out is missing: give {what}")
    out = pathlib.Path(values["out"].value).expanduser()
    if kind == NPZ and (out.suffix != ".npz" or not out.parent.is_dir()):
        raise UserError(
            f"--out={out}: it must end in .npz, in a folder that exists; --format npy or parquet writes a folder"
        )
    if kind != NPZ:
        if out.suffix:
            raise UserError(f"--out={out}: --format={kind} writes a folder; give a name without {out.suffix!r}")
        check_new_folder(out, setting="--out")
    if kind == "parquet":
        require("pyarrow", extra="tables", purpose="write Parquet files")
    return out


def _write_folder(values: flags.FlagValues, out: pathlib.Path, arrays: dict[str, Any]) -> None:
    with new_folder(out, setting="--out") as folder:
        FOLDERS[str(values["format"].value)](folder, arrays)


def _one_side(values: flags.FlagValues, folder: pathlib.Path, spec: str, out: pathlib.Path) -> int:
    """Embeds images without captions, texts without images, or latents of one modality."""
    trained = open_run(folder)
    on_bad_sample = values["on_bad_sample"].value or trained.config.input.on_bad_sample
    items = data.load_one_side(spec, on_bad_sample=on_bad_sample)
    hubness = None if values["hubness"].value is None else hubness_of(values, folder, trained)
    for line in (*items.notes, *items.problems):
        print(one_line(line))
    encoders, progress = encoders_of(values, folder), ExtractProgress()
    found = embed_one_side(trained, items, hubness=hubness, encoders=encoders, on_progress=progress)
    arrays = {name: trained.drop_unused(x) if x.ndim == 2 else x for name, x in found.items()}
    arrays[EMBEDDED_BY] = embedding_record(trained, hubness)
    if values["format"].value == NPZ:
        write_npz_atomic(out, arrays)
    else:
        _write_folder(values, out, arrays)
    side, (count, dim) = next((name, array.shape) for name, array in arrays.items() if array.ndim == 2)
    print(f"{out}: {side} {count} x {dim}, of step {trained.step}")
    _print_hubness(hubness)
    return 0


def _print_hubness(hubness: RunHubness | None) -> None:
    if hubness is not None:
        print(
            f"{hubness.line()}; the vectors have no unit length: use an inner-product index (FAISS: IndexFlatIP), not "
            "cosine or L2"
        )
