"""Opens the encoder that made the latents of a file, by its record there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignment_jax.core.errors import ConfigError
from alignment_jax.extract.encoders import ENCODERS, Encoder, Options, open_encoder

_OPTIONS = ("pooling", "prefix", "compute_dtype")


def reopen(
    record: Mapping[str, Any], *, side: str, name: str | None = None, device: str = "auto", download: bool = False
) -> Encoder:
    """Opens an encoder again, with the options that made the latents.

    Args:
      record: an entry of `PairSource.encoders`.
      side: "image" or "text".
      name: where the model is now, as for `open_encoder`; None means the record's name.
      device, download: see `Options`.

    Returns:
      The encoder. `views` and `pixel_range` of the record are left to the caller.

    Raises:
      ConfigError: the record names a function of the user, the model is missing, or its files have changed; the message
        names the encoder.
      MissingPackageError: the library that runs it is not installed.
    """
    made_by = str(record.get("name"))
    name = made_by if name is None else name
    if name.partition(":")[0] not in ENCODERS:
        raise ConfigError(
            f"the {side} latents were made by {made_by!r}, which cannot be opened by name; encode with it"
        )
    asked = record.get("options", {})
    options = Options(**{key: asked[key] for key in _OPTIONS if key in asked}, device=device, download=download)
    try:
        encoder = open_encoder(name, side=side, options=options)
    except ConfigError as error:
        raise ConfigError(f"{error} (the encoder of the {side} latents)") from error
    for key in ("weights", *_OPTIONS):
        if key in record and encoder.identity.get(key) != record[key]:
            what = "its files have" if key == "weights" else f"its {key} has"
            raise ConfigError(
                f"{name}: {what} changed since the {side} latents were made ({key} {record[key]!r}, now "
                f"{encoder.identity.get(key)!r}); put the old files back, or extract and train again"
            )
    return encoder
