"""Flags for the frozen encoders of a run on latents."""

from __future__ import annotations

import pathlib
from typing import Any

from absl import flags

from alignment_jax.inference.raw_latents import FrozenEncoders, frozen_encoders

_NAMES = ("image_encoder", "text_encoder", "device", "download")


def define_encoders(values: flags.FlagValues) -> None:
    """--image_encoder, --text_encoder, --device, --download."""
    for side in ("image", "text"):
        about = (
            f"For {side}s and a run on latents: the encoder of its {side} latents, by default the one that the run "
            "recorded."
        )
        flags.DEFINE_string(f"{side}_encoder", None, about, flag_values=values)
    about = "For encoders that run in PyTorch: auto, or a device such as cpu or cuda:0."
    flags.DEFINE_string("device", "auto", about, flag_values=values)
    about = "Download an encoder that is not on this machine."
    flags.DEFINE_bool("download", False, about, flag_values=values)


def encoders_of(values: flags.FlagValues, folder: pathlib.Path) -> FrozenEncoders:
    """The encoders of the run in `folder`; each is opened on its first use."""
    return frozen_encoders(folder, **encoder_options(values))


def encoder_options(values: flags.FlagValues) -> dict[str, Any]:
    """The flags as arguments of `frozen_encoders` and `alignment_jax.load`."""
    return {name: values[name].value for name in _NAMES}
