"""The model card of an exported run, README.md: data, metrics, recipe and licences, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from alignment_jax.report.tables import metrics_table, table, to_markdown

UNKNOWN = "unknown"  # the word of Hugging Face's cards for a licence that is not given


def model_card(
    *,
    title: str,
    license: str,
    facts: Mapping[str, Any],
    results: Mapping[str, Mapping[str, float]],
    names: tuple[str, ...],
    chance: Mapping[str, Mapping[str, float]],
    recipe: Mapping[str, Any],
    files: Mapping[str, str],
) -> str:
    """A model card with the header that Hugging Face reads.

    Args:
      title: of the run.
      license: of the weights, an identifier such as "apache-2.0".
      facts: rows of the first table.
      results, names, chance: as for `metrics_table`; no results for an unfinished run.
      recipe: setting -> value.
      files: name -> contents.

    >>> card = model_card(
    ...     title="frozen",
    ...     license="mit",
    ...     facts={"model": "adapters"},
    ...     results={},
    ...     names=("image", "text"),
    ...     chance={},
    ...     recipe={"loss.name": "infonce"},
    ...     files={"model.json": "description"},
    ... )
    >>> card.splitlines()[:3]
    ['---', 'license: "mit"', 'library_name: "alignment_jax"']
    """
    stated = license if license != UNKNOWN else "not stated"
    licences = [
        ("weights", stated),
        ("training data", "not stated"),
        ("encoders of the latents", "not stated"),
    ]
    measured = metrics_table(results, names=names, chance=chance) if results else None
    parts = [
        "---",
        f"license: {json.dumps(license)}",
        'library_name: "alignment_jax"',
        "tags: [contrastive-alignment, retrieval]",
        "---",
        "",
        f"# {' '.join(title.split())}",
        "",
        to_markdown(table(("", "value"), list(facts.items()))),
        "",
        "## Metrics",
        "",
        "The run has not finished: it has no results." if measured is None else to_markdown(measured),
        "",
        "## Recipe",
        "",
        to_markdown(table(("setting", "value"), [(name, _text(value)) for name, value in recipe.items()])),
        "",
        "## Files",
        "",
        to_markdown(table(("file", "contents"), list(files.items()))),
        "",
        "## Licences",
        "",
        "Trained weights depend on their data and on the encoders of the latents. Fill in what is not stated.",
        "",
        to_markdown(table(("of", "licence"), licences)),
        "",
    ]
    return "\n".join(parts)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
