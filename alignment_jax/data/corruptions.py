"""Corruptions of captions and images: pure functions of an item, a strength and a random generator.

Images are uint8 [H, W, 3], captions are strings, before and after. Strength 0 changes nothing. With the same generator,
a larger strength makes the same corruption stronger.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.optional import require
from alignment_jax.data.columns import TextColumn
from alignment_jax.data.loader import sample_generator
from alignment_jax.data.split import Column

ImageNoise = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
# (words, strength, generator, training vocabulary) -> words
WordNoise = Callable[[list[str], float, np.random.Generator, Sequence[str]], list[str]]


def drop_words(words: list[str], strength: float, rng: np.random.Generator, vocabulary: Sequence[str]) -> list[str]:
    """Drops each word with probability `strength`, but never all of them.

    >>> drop_words(["a", "dog"], 1.0, np.random.default_rng(0), ())
    ['a']
    """
    draws = rng.random(len(words))
    kept = [word for word, draw in zip(words, draws, strict=True) if draw >= strength]
    return kept or words[int(draws.argmax()) :][:1] if words else words


def swap_words(words: list[str], strength: float, rng: np.random.Generator, vocabulary: Sequence[str]) -> list[str]:
    """Chooses each word with probability `strength` and permutes the chosen words; none keeps its place.

    >>> swap_words(["a", "dog", "runs"], 1.0, np.random.default_rng(0), ())
    ['runs', 'a', 'dog']
    """
    draws, place = rng.random(len(words)), rng.random(len(words))
    chosen = np.flatnonzero(draws < strength)
    around = chosen[np.argsort(place[chosen])]  # a single cycle, so that no chosen word keeps its place
    moved = list(words)
    for here, there in zip(around.tolist(), np.roll(around, 1).tolist(), strict=True):
        moved[here] = words[there]
    return moved


def replace_words(words: list[str], strength: float, rng: np.random.Generator, vocabulary: Sequence[str]) -> list[str]:
    """Replaces each word, with probability `strength`, by a random word of the training captions.

    >>> replace_words(["a", "dog"], 1.0, np.random.default_rng(0), ("tree",))
    ['tree', 'tree']
    """
    draws, other = rng.random(len(words)), rng.integers(max(1, len(vocabulary)), size=len(words))
    return [
        vocabulary[k] if draw < strength else word
        for word, draw, k in zip(words, draws.tolist(), other.tolist(), strict=True)
    ]


def gaussian_noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Adds N(0, strength^2) to every pixel; 1 is the range from black to white.

    >>> noisy = gaussian_noise(np.full((64, 64, 3), 128, np.uint8), 0.1, np.random.default_rng(0))
    >>> bool(25 < noisy.std() < 26)
    True
    """
    noisy = image + 255.0 * strength * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur with a standard deviation of `strength` times the shorter side; deterministic.

    >>> image = np.zeros((16, 16, 3), np.uint8)
    >>> image[:, 8:] = 255
    >>> sorted(set(blur(image, 0.05, np.random.default_rng(0))[8, :, 0].tolist()))[:1]
    [0]
    """
    if strength <= 0:
        return image
    pillow = require("PIL.Image", extra="train", purpose="blur images")
    filters = require("PIL.ImageFilter", extra="train", purpose="blur images")
    radius = strength * min(image.shape[:2])
    return np.asarray(pillow.fromarray(np.ascontiguousarray(image)).filter(filters.GaussianBlur(radius)))


def occlude(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Covers a random rectangle with grey: `strength` of the area, with the aspect ratio of the image.

    >>> hidden = occlude(np.zeros((20, 20, 3), np.uint8), 0.25, np.random.default_rng(0))
    >>> float((hidden == 128).mean())
    0.25
    """
    height, width = image.shape[:2]
    side = float(np.sqrt(np.clip(strength, 0.0, 1.0)))
    h, w = round(side * height), round(side * width)
    y, x = rng.random(2)
    top, left = int(y * (height - h + 1)), int(x * (width - w + 1))
    hidden = np.array(image)
    hidden[min(top, height - h) :][:h, min(left, width - w) :][:, :w] = 128
    return hidden


def jpeg(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG compression with quality 100 (1 - strength); deterministic.

    >>> jpeg(np.zeros((8, 8, 3), np.uint8), 0.9, np.random.default_rng(0)).shape
    (8, 8, 3)
    """
    if strength <= 0:
        return image
    pillow = require("PIL.Image", extra="train", purpose="compress images")
    buffer = io.BytesIO()
    quality = int(np.clip(round(100 * (1 - strength)), 1, 100))
    pillow.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=quality)
    return np.asarray(pillow.open(io.BytesIO(buffer.getvalue())).convert("RGB"))


WORD_NOISES: dict[str, WordNoise] = {
    "caption_drop": drop_words,
    "caption_swap": swap_words,
    "caption_replace": replace_words,
}
IMAGE_NOISES: dict[str, ImageNoise] = {
    "image_gaussian": gaussian_noise,
    "image_blur": blur,
    "image_occlusion": occlude,
    "image_jpeg": jpeg,
}


def vocabulary(captions: Iterable[str]) -> tuple[str, ...]:
    """Every distinct word of the captions, in alphabetical order.

    >>> vocabulary(["a dog", "a cat"])
    ('a', 'cat', 'dog')
    """
    return tuple(sorted({word for caption in captions for word in caption.split()}))


def corrupt_captions(column: Column, kind: str, strength: float, *, seed: int, words: Sequence[str] = ()) -> TextColumn:
    """Corrupts the words of all captions of a column.

    Args:
      column: texts.
      kind: one of `WORD_NOISES`.
      strength: in [0, 1].
      seed: the noise of caption i depends only on seed and i.
      words: the training captions' `vocabulary`, for caption_replace.

    Raises:
      ConfigError: an unknown kind, a strength out of range, no vocabulary where one is needed, or no texts.

    >>> corrupt_captions(TextColumn(("a dog", "a cat")), "caption_drop", 0.0, seed=0).texts
    ('a dog', 'a cat')
    """
    if kind not in WORD_NOISES:
        raise ConfigError(f"unknown caption noise {kind!r}; known: {', '.join(WORD_NOISES)}")
    if column.kind != "text":
        raise ConfigError(f"{kind} is for texts; this column is of kind {column.kind!r}")
    if not 0 <= strength <= 1:
        raise ConfigError(f"the strength of {kind} must be in [0, 1], got {strength}")
    if kind == "caption_replace" and not words:
        raise ConfigError("caption_replace needs the words of the training captions")
    texts = column.read(np.arange(len(column)))
    noise = WORD_NOISES[kind]
    changed = (noise(text.split(), strength, sample_generator(seed, 0, i), words) for i, text in enumerate(texts))
    return TextColumn(tuple(" ".join(result) for result in changed))


def corrupt_image(image: np.ndarray, kind: str, strength: float, *, seed: int, index: int) -> np.ndarray:
    """Corrupts one image; the noise depends only on seed and index.

    Args:
      image: uint8 [H, W, 3], already resized for the model, so that a strength means the same for every source.
      kind: one of `IMAGE_NOISES`.
      strength: see the functions; in [0, 1].
      seed, index: seed of the noise and number of the image in its split.

    Raises:
      ConfigError: an unknown kind, or a strength out of range.

    >>> image = np.full((4, 4, 3), 7, np.uint8)
    >>> bool((corrupt_image(image, "image_gaussian", 0.0, seed=0, index=3) == image).all())
    True
    """
    if kind not in IMAGE_NOISES:
        raise ConfigError(f"unknown image noise {kind!r}; known: {', '.join(IMAGE_NOISES)}")
    if not 0 <= strength <= 1:
        raise ConfigError(f"the strength of {kind} must be in [0, 1], got {strength}")
    return IMAGE_NOISES[kind](image, strength, sample_generator(seed, 0, index))
