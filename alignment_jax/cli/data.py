"""`alignment-jax data`: describes a data set and lists its problems by file and row."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
from absl import flags

from alignment_jax import data, report
from alignment_jax.assembly.cluster_sizes import with_cluster_sizes
from alignment_jax.assembly.inferred_settings import text_length_notes
from alignment_jax.cli import common
from alignment_jax.config import default
from alignment_jax.core.errors import DataError, UserError, one_line

_TEXT_LENGTH, _TEXTS = 240, 5


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    del arguments
    about = "SPEC of the data, for example flickr:DIR or pairs:FILE.csv; docs/data/own_data.md lists all."
    flags.DEFINE_string("data", None, about, flag_values=values)
    common.define_on_bad_sample(values)
    flags.DEFINE_string("json", None, "Also write the description to this JSON file.", flag_values=values)
    flags.DEFINE_string("page", None, "Also write a page with samples to this HTML file.", flag_values=values)
    flags.DEFINE_integer("samples", 12, "Samples per split on the page.", flag_values=values)
    flags.DEFINE_bool(
        "clusters",
        False,
        "Cluster the training texts by K-Means, as for MM-TS, and show the cluster sizes.",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> int:
    spec = values["data"].value
    if not spec:
        raise UserError("--data is missing: give a SPEC, for example --data=flickr:DIR")
    if data.is_one_side(spec):
        return _one_side(spec, values)
    source = data.load(spec, on_bad_sample="skip")
    description = data.describe(source)
    if values["clusters"].value:
        _add_clusters(source, description)
    description["notes"] += text_length_notes(source)
    print(data.format_description(description))
    if values["json"].value:
        report.write_json_atomic(pathlib.Path(values["json"].value).expanduser(), description)
    problems = data.problems(source)
    if values["page"].value:
        page = pathlib.Path(values["page"].value).expanduser()
        count = max(0, int(str(values["samples"].value)))
        samples = {name: page_samples(source, split, count) for name, split in source.splits.items()}
        report.write_data_page(
            page, description=description, problems=problems, samples=samples, names=source.modalities
        )
        print(f"page: {one_line(str(page))}")
    _list_problems(spec, problems, "--on_bad_sample=skip (of train --config.input.on_bad_sample=skip)", values)
    return 0


def _one_side(spec: str, values: flags.FlagValues) -> int:
    """Describes images without captions, texts without images, or latents of one modality."""
    if given := [name for name in ("json", "page", "clusters") if values[name].value]:
        raise UserError(f"--{given[0]} is for data with both sides, and {spec} has one; leave it out")
    items = data.load_one_side(spec, on_bad_sample="skip")
    print(one_line(f"{spec} (one side, for alignment-jax embed)"))
    print(f"  {data.format_column(items.column)}")
    for line in items.notes:
        print(one_line(line))
    _list_problems(spec, items.problems, "--on_bad_sample=skip, also of embed", values)
    return 0


def _list_problems(spec: str, problems: Sequence[str], skip: str, values: flags.FlagValues) -> None:
    """Prints all problems; raises DataError with the flag `skip` in its message unless they are left out."""
    skips = values["on_bad_sample"].value == "skip"
    for problem in problems:
        print(f"{'left out' if skips else 'problem'}: {one_line(problem)}")
    if problems and not skips:
        raise DataError(
            f"{spec}: {len(problems)} problem{'s' * (len(problems) > 1)}, listed above; mend the data, or leave them "
            f"out with {skip}"
        )


def _add_clusters(source: data.PairSource, description: dict) -> None:
    """Adds the cluster sizes of the training texts, by K-Means with the settings of training."""
    name = "train" if "train" in source.splits else next(iter(source.splits))
    config = default()
    config.clusters.source = "kmeans"
    train = source.splits[name].replace(cluster_size=None, cluster_size_b=None)
    clustered, _ = with_cluster_sizes(config.clusters, train, seed=config.data_seed)
    description["splits"][name]["clusters"] = data.cluster_histogram(np.asarray(clustered.cluster_size))


def page_samples(source: data.PairSource, split: data.PairSplit, count: int) -> list[report.DataSample]:
    """Evenly spaced samples of a split, with a picture of each side that can be drawn."""
    items = np.unique(np.linspace(0, len(split) - 1, min(count, len(split))).astype(int)).tolist()
    drawn = {}
    columns: tuple[data.Column | None, ...] = (split.a, split.b, split.c)
    for name, column in zip(source.modalities, columns, strict=False):
        of_item = [int(split.b_of_a(i)[0]) for i in items] if column is split.b else items
        drawn[name] = None if column is None else _pictures(column, of_item)
    shown, sides = [], dict(zip("abc", source.modalities, strict=False))
    for place, item in enumerate(items):
        texts = [text for column in columns if column is not None for text in _texts(split, column, item)]
        label = "" if split.label is None or source.label_names is None else source.label_names[split.label[item]]
        has = {name: side not in split.present or split.present[side][item] for side, name in sides.items()}
        pictures = [(name, found[place]) for name, found in drawn.items() if found is not None and has[name]]
        shown.append(report.DataSample(str(split.ids[item]), label, pictures, texts))
    return shown


def _pictures(column: data.Column, items: Sequence[int]) -> list[np.ndarray] | None:
    """Images, or the spectrograms of recordings: time to the right, low frequencies at the bottom."""
    if isinstance(column, data.AudioColumn):
        mel = data.log_mel(sample_rate=16000, seconds=3.0, bands=48)
        spectrograms = [mel(recording) for recording in column.read(np.asarray(items))]
        return [((s.T[::-1] + 1) * 127.5).clip(0, 255).astype(np.uint8) for s in spectrograms]
    small = data.small_images(column)
    return None if small is None else list(small(items).values())


def _texts(split: data.PairSplit, column: data.Column, item: int) -> list[str]:
    """The first texts of an a-item, shortened."""
    items = split.b_of_a(item) if column is split.b else np.array([item])
    if column is split.b and "caption" in split.extra_b:
        found = np.asarray(split.extra_b["caption"])[items].astype(str).tolist()
    elif column.kind == "text":
        found = list(column.read(items))
    else:
        return []
    return [text if len(text) <= _TEXT_LENGTH else text[:_TEXT_LENGTH] + "…" for text in found[:_TEXTS] if text]
