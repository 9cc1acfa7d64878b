"""Text models in PyTorch, by sentence-transformers, with the pooling and normalisation of the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.hub import model_folder
from alignment_jax.core.optional import require
from alignment_jax.extract.encoders import Encoder, Options
from alignment_jax.extract.hub import identity_of, one_line_errors
from alignment_jax.extract.poolings import MODULES
from alignment_jax.extract.torch_huggingface import pick_device, quiet


def open_text_encoder(name: str, options: Options) -> Encoder:
    """A text encoder; see `encoders.open_encoder`."""
    library = require("sentence_transformers", extra="encoders", purpose="run st: encoders")
    quiet(require("transformers", extra="encoders", purpose="run st: encoders"))
    if options.pooling != "auto":
        raise ConfigError(f"st:{name}: the model's files set its pooling; remove --text_pooling, or use hf:")
    device = pick_device(options.device)
    folder = model_folder(name, download=options.download)
    with one_line_errors(f"st:{name}", "not a model that sentence-transformers can load from safetensors"):
        model = library.SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )

    def encode(texts: Sequence[str]) -> np.ndarray:
        texts = [options.prefix + text for text in texts]
        return model.encode(texts, batch_size=len(texts), convert_to_numpy=True, show_progress_bar=False)

    return Encoder(encode, identity_of(folder, pooling=MODULES, prefix=options.prefix))
