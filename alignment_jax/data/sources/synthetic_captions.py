"""Captions of scenes: templates, synonyms, and captions that match only partly."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from alignment_jax.data.sources.synthetic_scenes import COLORS, PLACES, SHAPES, TEXTURES, Scene, Thing

_COLOR_WORDS = {
    "red": ("red", "crimson"),
    "blue": ("blue", "azure"),
    "green": ("green", "emerald"),
    "yellow": ("yellow", "golden"),
    "purple": ("purple", "violet"),
    "orange": ("orange", "tangerine"),
    "pink": ("pink", "rose"),
    "cyan": ("cyan", "turquoise"),
}
_SHAPE_WORDS = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle", "wedge"),
    "star": ("star", "five pointed star"),
    "ring": ("ring", "hoop"),
    "cross": ("cross", "plus sign"),
    "diamond": ("diamond", "rhombus"),
    "heart": ("heart", "heart shape"),
}
_SIZE_WORDS = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium sized", "middle sized"),
    "large": ("large", "big", "huge"),
}
_TEXTURE_BEFORE = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "chequered"),
}
_TEXTURE_AFTER = {
    "plain": "in one plain color",
    "striped": "with stripes",
    "dotted": "with dots",
    "checked": "with checks",
}
_ROWS = (("top", "upper"), ("middle", "central"), ("bottom", "lower"))
_COLUMNS = ("left", "middle", "right")
_ONE = ("{0}", "there is {0}", "a picture of {0}", "we see {0}", "{0} on its own", "an image that shows {0}")
_TWO = (
    "{0} and {1}",
    "there is {0} and also {1}",
    "a picture of {0} with {1}",
    "{0} , while {1} is there too",
    "we see {1} next to {0}",
    "{1} accompanies {0}",
)


def _choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _place(place: tuple[int, int], rng: np.random.Generator) -> str:
    row, column = place
    if (row, column) == (1, 1):
        return _choose(rng, ("in the middle", "in the center"))
    if column == 1:
        return _choose(rng, (f"at the {_ROWS[row][0]}", f"on the {_ROWS[row][0]} edge"))
    if row == 1:
        return _choose(rng, (f"on the {_COLUMNS[column]}", f"at the {_COLUMNS[column]} edge"))
    return _choose(
        rng,
        (
            f"in the {_ROWS[row][0]} {_COLUMNS[column]} corner",
            f"at the {_ROWS[row][1]} {_COLUMNS[column]}",
        ),
    )


def _phrase(thing: Thing, rng: np.random.Generator) -> str:
    size = _choose(rng, _SIZE_WORDS[thing.size])
    color, shape = _choose(rng, _COLOR_WORDS[thing.color]), _choose(rng, _SHAPE_WORDS[thing.shape])
    if not thing.texture:
        middle = f"{size} {color} {shape}"
    elif rng.random() < 0.6:
        middle = f"{size} {_choose(rng, _TEXTURE_BEFORE[thing.texture])} {color} {shape}"
    else:
        middle = f"{size} {color} {shape} {_TEXTURE_AFTER[thing.texture]}"
    return f"{_article(middle)} {middle} {_place(thing.place, rng)}"


def _article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def _caption(scene: Scene, rng: np.random.Generator) -> str:
    phrases = [_phrase(thing, rng) for thing in scene.things]
    return _choose(rng, _ONE if len(phrases) == 1 else _TWO).format(*phrases)


def captions(scene: Scene, *, count: int, rng: np.random.Generator) -> list[str]:
    """Different captions of a scene, each with all attributes of all its objects.

    >>> from alignment_jax.data.sources.synthetic_scenes import Scene, Thing
    >>> scene = Scene(0, (Thing("red", "star", "plain", "large", (0, 0)),))
    >>> captions(scene, count=1, rng=np.random.default_rng(0))
    ['...']
    """
    found: dict[str, None] = {}
    while len(found) < count:
        found[_caption(scene, rng)] = None
    return list(found)


def partial_caption(scene: Scene, *, rng: np.random.Generator) -> str:
    """A partly matching caption: one attribute is wrong, or only the color or shape of one object is named."""
    if rng.random() < 0.5:
        return _caption(_with_a_false_attribute(scene, rng), rng)
    thing = scene.things[int(rng.integers(len(scene.things)))]
    if rng.random() < 0.5:
        word = _choose(rng, _SHAPE_WORDS[thing.shape])
        return _choose(rng, ("{0} {1}", "there is {0} {1}", "a picture of {0} {1}")).format(_article(word), word)
    word = _choose(rng, _COLOR_WORDS[thing.color])
    return _choose(rng, ("something {0}", "there is something {0}", "a picture of something {0}")).format(word)


def _with_a_false_attribute(scene: Scene, rng: np.random.Generator) -> Scene:
    which = int(rng.integers(len(scene.things)))
    thing = scene.things[which]
    attribute = _choose(rng, ("color", "shape", "place", *(("texture",) if thing.texture else ())))
    if attribute == "place":
        taken = {other.place for other in scene.things}
        places = [place for place in PLACES if place not in taken]
        false = dataclasses.replace(thing, place=places[int(rng.integers(len(places)))])
    else:
        known = {"color": tuple(COLORS), "shape": SHAPES, "texture": TEXTURES}[attribute]
        others = [word for word in known if word != getattr(thing, attribute)]
        false = dataclasses.replace(thing, **{attribute: _choose(rng, others)})  # type: ignore[arg-type]
    things = tuple(false if i == which else other for i, other in enumerate(scene.things))
    return dataclasses.replace(scene, things=things)
