"""`synthetic[:key=value,...]`: small rendered scenes with several captions each, generated from a seed.

A scene has one or two objects. The first and larger one is its *concept* (a colour and a shape); concepts follow a Zipf
law: few are common, most are rare. `label` is the concept, `cluster_size` the number of training scenes that share it.
No two scenes, in any splits, agree in all attributes that a caption can name.

Options, with their defaults:
  train=2000, val=200, test=200   scenes of each split (val and test do not depend on train)
  size=32         side of the images, pixels
  captions=5      captions of a scene
  seed=0          of the generator
  concepts=64     number of concepts, at most 64
  zipf=1.1        exponent of the law; 0 for equally common concepts
  objects=2       largest number of objects in a scene (1 or 2)
  partial=0.0     share of the captions that match only partly: a wrong attribute, or most attributes missing
  wrong=0.0       share of the captions that belong to another scene
  noise_in=train  splits with partial and wrong captions: train, or all

`extra_b["corruption"]` is the kind of each caption (0 correct, 1 partial, 2 wrong), `extra_b["scene"]` the scene of the
split that it describes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from alignment_jax.core.errors import ConfigError
from alignment_jax.data.columns import ImageColumn, TextColumn
from alignment_jax.data.sources import synthetic_captions as words
from alignment_jax.data.sources.synthetic_scenes import MAX_CONCEPTS, Scene, concept_names, draw_scenes, render
from alignment_jax.data.spec import parse_options
from alignment_jax.data.split import PairSource, PairSplit

OPTIONS = {
    "train": 2000,
    "val": 200,
    "test": 200,
    "size": 32,
    "captions": 5,
    "seed": 0,
    "concepts": MAX_CONCEPTS,
    "zipf": 1.1,
    "objects": 2,
    "partial": 0.0,
    "wrong": 0.0,
    "noise_in": "train",
}
KEPT, PARTIAL, WRONG = 0, 1, 2


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Generates the data set; see the module docstring for the options.

    Args:
      argument: the options; may be empty.
      seed: used if the options set none.
      on_bad_sample: not used.

    Returns:
      A source with train, val and test. Captions name left and right, so its hints turn flips off.

    Raises:
      ConfigError: an option is unknown or out of range, or there are too few different scenes.

    >>> source = load("train=4,val=2,test=2,size=16,captions=1")
    >>> source.splits["train"].b.read(np.array([0]))
    [...]
    """
    options = parse_options(argument, {**OPTIONS, "seed": seed}, what="synthetic")
    _check(options)
    seed = options["seed"]
    # Test is drawn first, so that it does not depend on the size of train.
    sizes = {name: options[name] for name in ("test", "val", "train")}
    scenes = draw_scenes(
        sum(sizes.values()), seed=seed, concepts=options["concepts"], zipf=options["zipf"], objects=options["objects"]
    )
    first, parts = 0, {}
    for name, count in sizes.items():
        parts[name] = (first, scenes[first : first + count])
        first += count
    common = np.bincount([scene.concept for scene in parts["train"][1]], minlength=options["concepts"])
    splits = {}
    for name in ("train", "val", "test"):
        noisy = name == "train" or options["noise_in"] == "all"
        partial, wrong = (options["partial"], options["wrong"]) if noisy else (0.0, 0.0)
        splits[name] = _split(name, *parts[name], options=options, partial=partial, wrong=wrong, common=common)
    return PairSource(
        "synthetic",
        f"synthetic:{argument}" if argument else "synthetic",
        splits,
        label_names=concept_names(options["concepts"], seed=seed),
        hints={"flip": False, "crop_scale": 0.8},
    )


def _check(options: dict) -> None:
    limits = {
        "train": (1, None),
        "val": (1, None),
        "test": (1, None),
        "size": (8, 1024),
        "captions": (1, 20),
        "seed": (0, None),
        "concepts": (1, MAX_CONCEPTS),
        "zipf": (0, None),
        "objects": (1, 2),
        "partial": (0, 1),
        "wrong": (0, 1),
    }
    for key, (low, high) in limits.items():
        # Not (value < low): NaN fails every comparison.
        if not options[key] >= low or (high is not None and not options[key] <= high) or options[key] == float("inf"):
            upper = "" if high is None else f" and at most {high}"
            raise ConfigError(f"synthetic: {key} must be at least {low}{upper}, got {options[key]}")
    if options["partial"] + options["wrong"] > 1:
        raise ConfigError(f"synthetic: partial + wrong must be at most 1, got {options['partial'] + options['wrong']}")
    if options["noise_in"] not in ("train", "all"):
        raise ConfigError(f"synthetic: noise_in must be train or all, got {options['noise_in']!r}")


def _split(
    name: str,
    first: int,
    scenes: Sequence[Scene],
    *,
    options: dict,
    partial: float,
    wrong: float,
    common: np.ndarray,
) -> PairSplit:
    n, k, seed = len(scenes), options["captions"], options["seed"]
    images = render(scenes, first=first, size=options["size"], seed=seed)
    texts: list[str] = []
    for number, scene in enumerate(scenes, start=first):
        texts += words.captions(scene, count=k, rng=np.random.default_rng((seed, 1, number)))
    owner = np.repeat(np.arange(n, dtype=np.int32), k)

    rng = np.random.default_rng((seed, 2, ("train", "val", "test").index(name)))
    corruption = np.zeros(n * k, np.int8)
    order = rng.permutation(n * k)
    n_wrong, n_partial = round(wrong * n * k), round(partial * n * k)
    corruption[order[:n_wrong]] = WRONG
    corruption[order[n_wrong : n_wrong + n_partial]] = PARTIAL
    written_for = owner.copy()
    original = list(texts)
    if n == 1 and n_wrong:
        raise ConfigError(f"synthetic: wrong captions need a second scene, but {name}=1")
    for row in np.flatnonzero(corruption == WRONG):
        other = (owner[row] + rng.integers(1, n)) % n
        written_for[row] = other
        texts[row] = original[other * k + rng.integers(k)]
    for row in np.flatnonzero(corruption == PARTIAL):
        texts[row] = words.partial_caption(scenes[owner[row]], rng=rng)

    concept = np.array([scene.concept for scene in scenes], np.int32)
    return PairSplit(
        a=ImageColumn(tuple(images), [f"synthetic {name} scene {i}" for i in range(n)]),
        b=TextColumn(tuple(texts), [f"synthetic {name} scene {i // k}, caption {i % k}" for i in range(n * k)]),
        b_to_a=owner,
        ids=np.array([f"{name}-{i:05d}" for i in range(n)]),
        label=concept,
        cluster_size=np.maximum(common[concept], 1),
        extra_b={"corruption": corruption, "scene": written_for},
    )


def scene_signatures(argument: str = "", *, seed: int = 0) -> dict[str, list[tuple]]:
    """The attributes of each scene, by split, to check that no scene occurs twice."""
    options = parse_options(argument, {**OPTIONS, "seed": seed}, what="synthetic")
    sizes = {name: options[name] for name in ("test", "val", "train")}
    scenes = iter(
        draw_scenes(
            sum(sizes.values()),
            seed=options["seed"],
            concepts=options["concepts"],
            zipf=options["zipf"],
            objects=options["objects"],
        )
    )
    return {name: [dataclasses.astuple(next(scenes)) for _ in range(count)] for name, count in sizes.items()}
