"""Synthetic scenes: a Zipf draw of attributes, and rendering by signed distances."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from alignment_jax.core.errors import ConfigError

COLORS = {
    "red": (214, 45, 52),
    "blue": (45, 98, 214),
    "green": (46, 160, 67),
    "yellow": (242, 201, 40),
    "purple": (138, 63, 184),
    "orange": (240, 128, 30),
    "pink": (244, 132, 178),
    "cyan": (56, 196, 208),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "diamond", "heart")
TEXTURES = ("plain", "striped", "dotted", "checked")
SIZES = {"small": 0.14, "medium": 0.19, "large": 0.25}  # radius as a share of the image's side
PLACES = tuple((row, column) for row in range(3) for column in range(3))  # cells of a 3 x 3 grid, from the top left
BACKGROUNDS = ((236, 232, 222), (206, 214, 222), (64, 68, 76), (30, 34, 52), (222, 224, 210), (92, 84, 80))
MAX_CONCEPTS = len(COLORS) * len(SHAPES)
_SECOND_OBJECT = 0.7  # share of the scenes with two objects


@dataclasses.dataclass(frozen=True)
class Thing:
    """One object, with values of the tables above; `texture` is "" for the second object of a scene."""

    color: str
    shape: str
    texture: str
    size: str
    place: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Scene:
    """The attributes of a scene. Background, jitter and rotation are nuisances, drawn on rendering."""

    concept: int
    things: tuple[Thing, ...]


def _concepts(count: int, seed: int) -> list[tuple[str, str]]:
    pairs = [(color, shape) for color in COLORS for shape in SHAPES]
    return [pairs[i] for i in np.random.default_rng((seed, 3)).permutation(len(pairs))[:count]]


def concept_names(count: int, *, seed: int) -> tuple[str, ...]:
    """The concepts, most common first.

    >>> len(concept_names(5, seed=0))
    5
    """
    return tuple(f"{color} {shape}" for color, shape in _concepts(count, seed))


def number_of_scenes(concepts: int, objects: int) -> int:
    """Number of different scenes."""
    looks = len(TEXTURES) * len(PLACES)
    single = concepts * looks * len(SIZES)
    # The first object is medium or large; the second is small, of another concept and in another place.
    pairs = concepts * looks * 2 * (concepts - 1) * (len(PLACES) - 1)
    return single + (pairs if objects == 2 else 0)


def draw_scenes(count: int, *, seed: int, concepts: int, zipf: float, objects: int) -> list[Scene]:
    """Draws different scenes; scene i depends only on (seed, i), so a longer draw starts with a shorter one.

    Raises:
      ConfigError: there are too few different scenes, in total or of the common concepts.
    """
    existing = number_of_scenes(concepts, objects)
    if count > existing:
        raise ConfigError(
            f"synthetic: {count} scenes are too many, only {existing} different ones exist with "
            f"concepts={concepts} and objects={objects}"
        )
    known = _concepts(concepts, seed)
    mass = np.arange(1, concepts + 1, dtype=np.float64) ** -zipf
    cumulative = np.cumsum(mass / mass.sum())
    rng = np.random.default_rng((seed, 4))
    seen: set[Scene] = set()
    scenes: list[Scene] = []
    refused = 0
    while len(scenes) < count:
        scene = _draw_scene(rng, known, cumulative, objects)
        if scene in seen:
            refused += 1
            if refused > 1000 + 50 * count:
                raise ConfigError(
                    f"synthetic: cannot draw {count} different scenes of the common concepts; "
                    "use fewer scenes, a smaller zipf, more concepts or objects=2"
                )
            continue
        seen.add(scene)
        scenes.append(scene)
    return scenes


def _draw_scene(rng: np.random.Generator, known: list[tuple[str, str]], cumulative: np.ndarray, objects: int) -> Scene:
    u = rng.random(8)  # a fixed number of draws per scene, so that scenes are independent of each other
    concept = min(int(np.searchsorted(cumulative, u[0], side="right")), len(known) - 1)
    two = objects == 2 and len(known) > 1 and u[1] < _SECOND_OBJECT
    sizes = ("medium", "large") if two else tuple(SIZES)
    place = int(u[4] * len(PLACES))
    first = Thing(*known[concept], _pick(TEXTURES, u[2]), _pick(sizes, u[3]), PLACES[place])
    if not two:
        return Scene(concept, (first,))
    other = min(int(np.searchsorted(cumulative, u[5], side="right")), len(known) - 1)
    if other == concept:
        other = (concept + 1 + int(u[6] * (len(known) - 1))) % len(known)
    elsewhere = (place + 1 + int(u[7] * (len(PLACES) - 1))) % len(PLACES)
    return Scene(concept, (first, Thing(*known[other], "", "small", PLACES[elsewhere])))


def _pick(options: Sequence[str], uniform: float) -> str:
    return options[int(uniform * len(options))]


def render(scenes: Sequence[Scene], *, first: int, size: int, seed: int) -> np.ndarray:
    """Renders scenes: uint8 [n, size, size, 3]; image i is a function of (seed, first + i, scene, size).

    Objects are drawn by signed distance with a soft edge of one pixel, on a background with a slight gradient;
    position, radius, rotation and colour are jittered.
    """
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    y, x = np.meshgrid(axis, axis, indexing="ij")
    images = np.empty((len(scenes), size, size, 3), np.uint8)
    for i, scene in enumerate(scenes):
        rng = np.random.default_rng((seed, 5, first + i))
        tone = np.array(BACKGROUNDS[rng.integers(len(BACKGROUNDS))], np.float32)
        slope = rng.uniform(-18, 18, 2).astype(np.float32)
        canvas = tone + (slope[0] * (x - 0.5) + slope[1] * (y - 0.5))[..., None]
        for thing in scene.things:
            canvas = _paint(canvas, x, y, thing, rng, size)
        grain = rng.normal(0, 2.5, canvas.shape).astype(np.float32)
        images[i] = np.clip(canvas + grain, 0, 255).round().astype(np.uint8)
    return images


def _paint(
    canvas: np.ndarray, x: np.ndarray, y: np.ndarray, thing: Thing, rng: np.random.Generator, size: int
) -> np.ndarray:
    jitter = rng.uniform(-1, 1, 7).astype(np.float32)
    radius = SIZES[thing.size] * (1 + 0.08 * jitter[0])
    row, column = thing.place
    # Large objects stay inside the image; the jitter is too small to reach another cell.
    center_x = float(np.clip(0.19 + 0.31 * column + 0.02 * jitter[1], radius + 0.01, 0.99 - radius))
    center_y = float(np.clip(0.19 + 0.31 * row + 0.02 * jitter[2], radius + 0.01, 0.99 - radius))
    angle = math.radians(10) * float(jitter[3])
    dx, dy = (x - center_x) / radius, (y - center_y) / radius
    u = math.cos(angle) * dx + math.sin(angle) * dy
    v = -math.sin(angle) * dx + math.cos(angle) * dy

    color = np.array(COLORS[thing.color], np.float32) + 10 * jitter[4:7]
    light = color + (255 - color) * 0.72
    mix = _texture(thing.texture, u, v, sharpness=radius * size / 2)[..., None]
    body = color * (1 - mix) + light * mix
    distance = _distance(thing.shape, u, v) * radius * size  # in pixels
    inside = np.clip(0.5 - distance, 0, 1)[..., None]
    edge = np.clip(0.5 - np.abs(distance + 0.6), 0, 1)[..., None]  # a darker rim for contrast
    body = body * (1 - 0.45 * edge)
    return canvas * (1 - inside) + body * inside


def _texture(texture: str, u: np.ndarray, v: np.ndarray, *, sharpness: float) -> np.ndarray:
    """Share of the light colour in [0, 1]; about two periods per object, visible at low resolution."""
    wave = 2 * math.pi * 0.95
    if texture == "striped":
        pattern = np.sin(wave * (u + v) * 0.9)
    elif texture == "checked":
        pattern = np.sin(wave * u * 0.8 + 0.8) * np.sin(wave * v * 0.8 + 0.8) * 1.6
    elif texture == "dotted":
        pattern = np.cos(wave * u * 1.1) + np.cos(wave * v * 1.1) - 0.9
    else:
        return np.zeros_like(u)
    return np.clip(0.5 + pattern * min(sharpness, 3.0), 0, 1)


def _distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance (near the edge) to the shape of about unit radius, v pointing down; negative inside."""
    if shape == "circle":
        return np.hypot(u, v) - 0.95
    if shape == "ring":
        return np.abs(np.hypot(u, v) - 0.7) - 0.28
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - 0.82
    if shape == "diamond":
        return (np.abs(u) * 1.25 + np.abs(v) - 1.0) / 1.6
    if shape == "cross":
        a, b = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
        return np.maximum(a - 0.95, b - 0.33)
    if shape == "triangle":
        w = v - 0.15
        return np.maximum(w - 0.6, (np.abs(u) * 1.75 - w - 1.05) / 2.0)
    if shape == "star":
        angle = np.arctan2(u, -v)
        spoke = np.abs((angle / (2 * math.pi / 5) + 0.5) % 1.0 - 0.5) * 2  # 0 on a point, 1 between two
        return (np.hypot(u, v) - (1.05 - 0.62 * spoke**0.8)) * 0.75
    # heart: two discs over a wedge
    w = v - 0.05
    discs = np.hypot(np.abs(u) - 0.45, w + 0.25) - 0.52
    wedge = np.maximum((np.abs(u) * 1.05 + w - 0.92) / 1.45, -(w + 0.2))
    return np.minimum(discs, wedge)
