"""Models of several seeds of one configuration; each split is embedded once for all of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax import evals
from alignment_jax.assembly.build import Built
from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.types import PyTree
from alignment_jax.inference.query_bank import RunHubness, run_hubness
from alignment_jax.retrieval import NONE, HubnessCorrection
from alignment_jax.train import processes

Batches = Iterator[tuple[np.ndarray, np.ndarray]]


class SeedModels:
    """Alignment models that differ in their seed.

    Args:
      built: the run of any of the seeds.
      variables: {"params", "model_state"} of every model. The encoders of several models are mapped over the seeds, so
        they must be able to train together (see `train.vmapped_seeds.vmap_obstacle`).
      everywhere: of one model, all processes share the work: every process must make the same calls in the same order.

    Raises:
      ValueError: the run is a classifier, or several models are to be shared.
    """

    def __init__(self, built: Built, variables: Sequence[PyTree], *, everywhere: bool = False):
        self.built, self.variables = built, list(variables)
        self._everywhere = everywhere
        if everywhere and len(self.variables) > 1:
            raise ValueError(f"everywhere: processes share the work of one model, got {len(self.variables)}")
        self._evaluator = built.evaluator
        self._stacked = None
        if len(self.variables) > 1:
            self._stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *self.variables)
        self._embedded: dict[str, list[evals.SplitEmbeddings]] = {}
        self._folded: dict[str, list[evals.SplitEmbeddings | None]] = {}

    def embedded(self, split: str) -> list[evals.SplitEmbeddings]:
        """Both sides of a split of the run, of every model."""
        if split not in self._embedded:
            items = self.built.experiment.evaluations[split]
            if self._stacked is None:
                found = [self._evaluator(self.variables[0], items, everywhere=self._everywhere)]
            else:
                found = self._evaluator.embedded_seeds(self._stacked, items)
            self._embedded[split] = found
        return self._embedded[split]

    def side(self, side: str, batches: Callable[..., Batches]) -> np.ndarray:
        """[models, k, d]: the items of side "a" or "b" in padded batches, see `Embedder.embed_all`."""
        if self._stacked is None:
            return self._evaluator.embed_all(side, self.variables[0], batches, everywhere=self._everywhere)[None]
        return self._evaluator.embed_side_of_seeds(side, self._stacked, batches())

    @functools.cached_property
    def hubness(self) -> list[RunHubness] | None:
        """The query bank and the correction of every model; None where `eval.bank_size` is 0."""
        items = self.built.bank_items
        if items is None:
            return None
        views = [self.side("a", batches) for batches in items.views_a]
        sides_a, sides_b = evals.mean_direction(views) if len(views) > 1 else views[0], self.side("b", items.b)
        return [
            self._agreed(run_hubness(self.built, evals.QueryBank(a, b), functools.partial(self._embedded_val, k)))
            for k, (a, b) in enumerate(zip(sides_a, sides_b, strict=True))
        ]

    def _agreed(self, own: RunHubness) -> RunHubness:
        """Process 0's choice: another machine may round a bias in another way, and choose another correction."""
        if not self._everywhere:
            return own
        found = processes.compute_on_primary(lambda: {"correction": str(own.correction), "origin": own.origin})
        correction = HubnessCorrection.parse(found["correction"])
        return dataclasses.replace(own, correction=correction, origin=found["origin"])

    def _embedded_val(self, k: int) -> evals.SplitEmbeddings:
        return self.embedded("val")[k]

    def folded(self, split: str) -> list[evals.SplitEmbeddings | None]:
        """`embedded` with the vectors of each model's hubness correction; None for `eval.hubness=none`."""
        if split not in self._folded:
            # Without a correction the bank is not embedded.
            known = None if self.built.experiment.config["eval"]["hubness"] == NONE else self.hubness
            self._folded[split] = [
                None if known is None else known[k].fold(embedded) for k, embedded in enumerate(self.embedded(split))
            ]
        return self._folded[split]

    def metrics(self, split: str) -> list[dict[str, float]]:
        """The metrics of the run's task on a split and its hubness, of every model, plain and corrected."""
        evaluate, items = self.built.experiment.evaluate, self.built.experiment.evaluations[split]

        def measure(embedded: evals.SplitEmbeddings) -> dict[str, float]:
            return evaluate.measure(embedded, items)  # type: ignore[attr-defined]

        each = zip(self.embedded(split), self.folded(split), strict=True)
        return [evals.metrics_with_hubness(measure, embedded, folded) for embedded, folded in each]


__getattr__ = renamed_names(__name__, {"Models": "SeedModels"})
