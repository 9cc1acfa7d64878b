"""Chooses the devices that a run trains on."""

from __future__ import annotations

import jax

from alignment_jax.core.errors import ConfigError


def training_devices(count: int) -> list[jax.Device]:
    """The first `count` devices (`train.devices`); all of them for 0.

    Raises:
      ConfigError: there are fewer, or several processes do not train on all of them.
    """
    # Sorted by process: `jax.devices` does not promise that order on a pod.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if count > len(devices) or count < 0:
        raise ConfigError(f"train.devices is {count}, but there are {len(devices)} devices; 0 takes all of them")
    if jax.process_count() > 1 and count not in (0, len(devices)):
        raise ConfigError(
            f"train.devices is {count}, but {jax.process_count()} processes train on all of their {len(devices)} "
            "devices; set it to 0"
        )
    return devices[:count] if count else devices
