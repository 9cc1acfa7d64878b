"""Methods by name: `method=vals`, `method=vals+mm_ts`, `method=all`."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from alignment_jax.core.errors import ConfigError, suggest

# Published settings where there are any (alpha and shifts of MM-TS: the authors' code; FuseMix's a = 1: uniform mixing
# weights; CSA: the authors' code for Flickr30k, but with shrinkage, chosen on val). Sigma of Modest-Align is relative,
# because the paper's 0.01 is in the units of its latents.
METHODS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "vals": {"weighting.signal": "variance"},
    "vals_probability": {"weighting.signal": "probability"},
    "vals_loss": {"weighting.signal": "loss"},
    "modest_align": {"perturb.sigma": 0.1, "perturb.relative": True, "smoothing.start": 0.1, "perturb.fusemix": 1.0},
    "noise": {"perturb.sigma": 0.1, "perturb.relative": True},
    "smoothing": {"smoothing.start": 0.1},
    "fusemix": {"perturb.fusemix": 1.0},
    "mm_ts": {"temperature.schedule": "mm_ts"},
    "mm_ts_margin": {"loss.name": "max_margin", "margin.schedule": "mm_ts"},
    "sigmoid": {"loss.name": "sigmoid"},
    "structure": {"structure.weight": 10.0},
    "sotalign": {"loss.name": "sigmoid", "transport.weight": 1e-4},
    "cca": {"init.name": "cca", "train.duration": "0 steps"},
    "csa": {
        "init.name": "cca",
        "init.similarity": "weighted_cosine",
        "init.dim": "200",
        "init.power": "1.0",
        "train.duration": "0 steps",
    },
    "bss": {"sampling.name": "probabilistic"},
    "curriculum": {"sampling.name": "curriculum"},
    "anti_curriculum": {"sampling.name": "anti_curriculum"},
}
# Of classifiers: methods against unequal modalities. QMF predicts by its fused head alone.
BALANCING: dict[str, dict[str, Any]] = {
    "ogm_ge": {"balance.name": "ogm_ge", "balance.noise": True},
    "ogm": {"balance.name": "ogm_ge", "balance.noise": False},
    "agm": {"balance.name": "agm"},
    "pmr": {"balance.name": "pmr"},
    "gradient_blending": {"balance.name": "gradient_blending"},
    "mmpareto": {"balance.name": "mmpareto"},
    "qmf": {"balance.name": "qmf", "model.fusion": "confidence", "classification.predict": "fused"},
    "modality_dropout": {"balance.name": "modality_dropout"},
    "unimodal_pretraining": {"balance.name": "unimodal_pretraining"},
}
CLOSED_FORMS = ("cca", "csa")
_CLASSIFIER = "fusion_classifier"
_TOGETHER = ("vals", "modest_align", "mm_ts", "bss")


def expand_methods(names: str) -> tuple[str, ...]:
    """The methods of a name.

    >>> expand_methods("vals+mm_ts"), expand_methods("all")[0]
    (('vals', 'mm_ts'), 'vals')
    """
    return tuple(part for name in names.split("+") for part in (_TOGETHER if name == "all" else (name,)))


def apply_methods(config: ConfigDict, names: str) -> None:
    """Turns methods on in a configuration.

    Args:
      config: changed in place.
      names: one of `METHODS` or, for classifiers, `BALANCING`; several joined by "+"; "all" for all methods of
        alignment that combine; or "" for none.

    Raises:
      ConfigError: an unknown name, or two methods with different values of one setting.

    >>> from alignment_jax.config import default
    >>> config = default()
    >>> apply_methods(config, "vals+mm_ts")
    >>> config.weighting.signal, config.temperature.schedule
    ('variance', 'mm_ts')
    """
    wanted: dict[str, tuple[Any, str]] = {}
    known = {**METHODS, **BALANCING}
    parts = list(filter(None, names.split("+")))
    closed = next((name for name in parts if name in CLOSED_FORMS), None)
    others = [name for name in parts if name != closed]
    if closed and others:
        raise ConfigError(
            f"methods {closed} and {others[0]} contradict each other: {closed} trains nothing (init.name=cca starts "
            "training from a closed form)"
        )
    for name in filter(None, names.split("+")):
        for method in _TOGETHER if name == "all" else (name,):
            if method not in known:
                raise ConfigError(f"unknown method {method!r}; known: all, {', '.join(known)}, and any joined by +")
            if method in BALANCING and config.model.name != _CLASSIFIER:
                raise ConfigError(
                    f"method {method} balances the modalities of a classifier (model.name={_CLASSIFIER}); "
                    f"model.name is {config.model.name!r}"
                )
            for setting, value in known[method].items():
                if wanted.get(setting, (value, ""))[0] != value:
                    raise ConfigError(f"methods {wanted[setting][1]} and {method} contradict each other in {setting}")
                wanted[setting] = (value, method)
    config.update_from_flattened_dict({setting: value for setting, (value, _) in wanted.items()})


def apply_balance(config: ConfigDict, name: str) -> None:
    """Turns a method against unequal modalities on in a classifier's configuration; "none" changes nothing.

    Args:
      config: changed in place.
      name: "none" or one of `BALANCING`.

    Raises:
      ConfigError: an unknown name.

    >>> from alignment_jax.config import default, fusion_classifier
    >>> config = default()
    >>> config.model = fusion_classifier()
    >>> apply_balance(config, "qmf")
    >>> config.balance.name, config.model.fusion
    ('qmf', 'confidence')
    """
    if name not in ("none", *BALANCING):
        raise ConfigError(f"config argument balance={name!r}{suggest(name, ('none', *BALANCING))}")
    if name != "none":
        apply_methods(config, name)
        config.name = f"{config.name}, {name}"
