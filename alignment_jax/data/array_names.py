"""Names of embedding arrays: the canonical ones (image, text), generic ones (a, b), and aliases of other tools."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError, suggest

# (name, generic name) of each array.
GENERIC = {
    "image": "a",
    "text": "b",
    "text_to_image": "b_to_a",
    "image_id": "a_id",
    "caption": "b_text",
    "split": "split",
    "label": "label",
    "cluster_size": "b_cluster_size",
    "image_unpaired": "a_unpaired",
    "text_unpaired": "b_unpaired",
}
VIEW = re.compile(r"(?:image|a)_(flip|crop_[1-9]\d*)")
MODALITIES, ENCODERS = "modalities", "encoders"
EMBEDDED_BY = "embedded_by"  # [1] JSON: the model that made the vectors
# Names in other tools, in lower case.
_ALIASES = {
    "text_to_image": ("txt2img", "text2image", "txt_to_img", "caption_to_image", "image_index", "img_index"),
    "image_id": ("image_ids", "id", "ids", "image_path", "image_paths", "file_name", "filename", "filenames", "key"),
    "caption": ("captions", "sentences", "sentence", "texts", "text", "txt"),
    "split": ("splits", "subset"),
    "label": ("labels", "class", "classes", "target", "targets"),
}
_LATENTS = r"[_-]?(?:embed|embeds|emb|embs|embedding|embeddings|feat|feats|feature|features|latent|latents|vectors)"
# Modality -> how the name of its latents begins, as in image_embeds or img_emb.
_WORDS = {
    "image": r"images?|imgs?|photos?|pictures?|visual|vision",
    "video": r"videos?",
    "audio": r"audios?|sounds?",
    "text": r"texts?|txts?|captions?|sentences?|language",
}
_OF_MODALITY = {
    modality: re.compile(rf"(?:{words})(?:{_LATENTS})?", re.IGNORECASE) for modality, words in _WORDS.items()
}

# Options of a SPEC: role=ARRAY or role=FILE.
OPTIONS = dict.fromkeys((*GENERIC, *GENERIC.values(), "video", "audio", MODALITIES), "")


@dataclasses.dataclass(frozen=True)
class NamedArrays:
    """Arrays by their canonical names.

    Attributes:
      arrays: image, text and those of `GENERIC`, the views, `modalities` and `encoders` that were found.
      modalities: names of the two sides.
      unused: names of arrays that are not used.
      exact: canonical names of the arrays that were not found by an alias.
    """

    arrays: dict[str, np.ndarray]
    modalities: tuple[str, str]
    unused: tuple[str, ...]
    exact: frozenset[str]


def role_of(name: str) -> str:
    """The canonical name of an array for any of its names, or the modality.

    Raises:
      ConfigError: unknown name.

    >>> role_of("b_to_a"), role_of("a_flip"), role_of("audio"), role_of("captions")
    ('text_to_image', 'image_flip', 'audio', 'caption')
    """
    view = VIEW.fullmatch(name)
    if view:
        return f"image_{view[1]}"
    own = {generic: role for role, generic in GENERIC.items()} | {role: role for role in (*GENERIC, MODALITIES)}
    own |= {word: word for word in _WORDS}
    for role, aliases in _ALIASES.items():
        own = dict.fromkeys(aliases, role) | own
    if name in own:
        return own[name]
    raise ConfigError(f"embeddings: unknown option {name!r}{suggest(name, OPTIONS)}")


def match_arrays(arrays: Mapping[str, np.ndarray], given: Mapping[str, str], *, where: str) -> NamedArrays:
    """Finds the array of each role.

    Args:
      arrays: by the names of the file.
      given: canonical name or modality -> name in the file, as the user gave it; it takes precedence.
      where: file, for messages.

    Raises:
      DataError: a side is missing or ambiguous.

    >>> found = match_arrays({"img_emb": np.eye(2), "text_emb": np.eye(2), "extra": np.eye(2)}, {}, where="e.npz")
    >>> sorted(found.arrays), found.modalities, found.unused
    (['image', 'text'], ('image', 'text'), ('extra',))
    """
    left, found, words = dict(arrays), dict[str, np.ndarray](), dict[str, str]()

    def take(role: str, name: str) -> None:
        found[role] = left.pop(name)

    for word, name in given.items():
        if name not in left:
            raise DataError(f"{where}: no array {name!r} for {word}; it has {_names(arrays)}")
        take(word, name)
    _by_own_names(left, found, words, where)
    exact = frozenset(found)
    for modality, pattern in _OF_MODALITY.items():
        fits = [name for name, array in left.items() if pattern.fullmatch(name) and is_latent(array)]
        if modality in found or not fits:
            continue
        if len(fits) > 1:
            raise DataError(f"{where}: both {fits[0]!r} and {fits[1]!r} may be {modality}; add ,{modality}={fits[0]}")
        take(modality, fits[0])
    for role, aliases in _ALIASES.items():
        fits = [name for alias in aliases for name in left if name.lower() == alias and not is_latent(left[name])]
        if role not in found and fits:
            take(role, fits[0])
    found, sides, spare = _two_sides(found, words, arrays, where)
    return NamedArrays(found, sides, tuple(sorted([*left, *spare])), exact)


def with_own_names(arrays: Mapping[str, np.ndarray], *, where: str) -> dict[str, np.ndarray]:
    """Replaces every generic name by the canonical one; unknown names stay.

    Args:
      arrays: by generic or canonical names.
      where: file, for messages.

    Raises:
      DataError: an array occurs under both names, or there is no image or no text.

    >>> sorted(with_own_names({"a": np.eye(2), "b": np.eye(2), "a_flip": np.eye(2)}, where="e.npz"))
    ['image', 'image_flip', 'text']
    """
    left, found = dict(arrays), dict[str, np.ndarray]()
    _by_own_names(left, found, {}, where)
    for name in ("image", "text"):
        if name not in found:
            raise DataError(f"{where}: no array {name!r} (or {GENERIC[name]!r}); it has {_names(arrays)}")
    return {**found, **left}


def is_latent(array: np.ndarray) -> bool:
    """Whether it can hold one vector a row: floats of two or three axes."""
    return array.ndim >= 2 and np.issubdtype(array.dtype, np.floating)


def _by_own_names(left: dict[str, np.ndarray], found: dict[str, np.ndarray], words: dict[str, str], where: str) -> None:
    """Moves arrays with a canonical or generic name from `left` to `found`."""
    own = {generic: role for role, generic in GENERIC.items()}
    own |= {role: role for role in (*GENERIC, MODALITIES, ENCODERS, EMBEDDED_BY)}
    seen: dict[str, str] = {}
    for name in list(left):
        view = VIEW.fullmatch(name)
        role = f"image_{view[1]}" if view else own.get(name)
        # Strings in `text` are captions, not latents.
        if role is None or role in found or (role in ("image", "text") and left[name].dtype.kind in "SU"):
            continue
        if role in seen:
            first, second = sorted((seen[role], name), key=len, reverse=True)
            raise DataError(f"{where}: has both {first!r} and {second!r}; keep one")
        seen[role] = name
        if name in ("a", "b"):
            words[name] = role
    for role, name in seen.items():
        found[role] = left.pop(name)


def _two_sides(
    found: dict[str, np.ndarray], words: Mapping[str, str], arrays: Mapping[str, np.ndarray], where: str
) -> tuple[dict[str, np.ndarray], tuple[str, str], list[str]]:
    """(arrays with the sides as image and text, names of the sides, modalities that are not used)."""
    there = [modality for modality in _WORDS if modality in found]
    second = "text" if "text" in there else (there[1] if len(there) > 1 else "")
    first = next((modality for modality in there if modality != second), "")
    if not first or not second:
        missing = "text" if first and first != "text" else "image"
        latents = [name for name, array in arrays.items() if is_latent(array)]
        more = f"name it with ,{missing}=NAME"
        if not latents:
            more = "latents are floats [rows, dimensions]"
        elif len(latents) == 1:
            more = "pairs need latents of both sides; to embed one side, alignment-jax embed takes latents:FILE"
        raise DataError(f"{where}: no array {missing!r} (or {GENERIC[missing]!r}); it has {_names(arrays)}; {more}")
    rest = {name: array for name, array in found.items() if name not in _WORDS}
    sides = tuple(_called(side, words) for side in (first, second))
    spare = [modality for modality in there if modality not in (first, second)]
    return {**rest, "image": found[first], "text": found[second]}, sides, spare  # type: ignore[return-value]


def _called(side: str, words: Mapping[str, str]) -> str:
    return next((name for name, role in words.items() if role == side), side)


def _names(arrays: Mapping[str, np.ndarray]) -> str:
    return ", ".join(sorted(arrays)) or "nothing"
