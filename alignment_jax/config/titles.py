"""Names of runs and their reports: the data set, a comma, the method."""

from __future__ import annotations

import pathlib
import re

from ml_collections import ConfigDict

# The first `,key=value` after a path.
_OPTIONS = re.compile(r",\s*[a-z_]+\s*=.*")


def data_name(spec: str) -> str:
    """A short name of a data set: the folder, or the file with its folder.

    >>> data_name("embeddings:/data/birds/latents.npz"), data_name("flickr:/data/Flickr8k"), data_name("pairs:mine.csv")
    ('birds/latents.npz', 'Flickr8k', 'mine.csv')
    >>> data_name("tfds:coco_captions,data_dir=prepared"), data_name("synthetic:train=200")
    ('coco_captions', 'synthetic data')
    """
    source, _, argument = spec.partition(":")
    path = pathlib.PurePath(_OPTIONS.sub("", f",{argument}").removeprefix(","))
    if not path.name:
        return f"{source} data"
    return f"{path.parent.name}/{path.name}" if path.suffix and path.parent.name else path.name


def use_data(config: ConfigDict, spec: str) -> None:
    """Sets another data set, and replaces it in the name of the run.

    Args:
      config: changed in place.
      spec: the argument `data=`; "" changes nothing.

    >>> config = ConfigDict({"name": "Flickr8k, frozen latents", "data": "embeddings:flickr8k.npz"})
    >>> use_data(config, "embeddings:mine.npz")
    >>> config.name, config.data
    ('mine.npz, frozen latents', 'embeddings:mine.npz')
    """
    if not spec:
        return
    config.data = spec
    what = config.name.partition(", ")[2]
    config.name = f"{data_name(spec)}, {what}" if what else data_name(spec)
