"""The query bank of a run, query_bank.npz: embeddings of training items and the correction that they serve."""

from __future__ import annotations

import dataclasses
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import evals
from alignment_jax.assembly.build import Built
from alignment_jax.assembly.hubness import AUTO
from alignment_jax.assembly.saved_run import Folder, run_folder
from alignment_jax.core.errors import AlignmentError, RunError
from alignment_jax.core.storage import write_npz_atomic
from alignment_jax.retrieval import NONE, HubnessCorrection

FILE = "query_bank.npz"
_DEFAULT = HubnessCorrection("nnn")
_LEAST = 50  # a-items of val from which on a correction can be chosen


@dataclasses.dataclass(frozen=True)
class RunHubness:
    """The hubness correction of one model.

    bank: embeddings of training items.
    correction: of `eval.hubness`; "none" for none.
    origin: how it was chosen; "" for one that was given.
    """

    bank: evals.QueryBank
    correction: HubnessCorrection
    origin: str = ""

    def fold(self, embedded: evals.SplitEmbeddings) -> evals.SplitEmbeddings:
        """The split with folded vectors; unchanged for the correction "none"."""
        return evals.fold_embeddings(embedded, self.bank, self.correction) if self.correction else embedded

    def fold_side(self, side: str, z: np.ndarray) -> np.ndarray:
        """Vectors [n, d] of side "a" or "b" with the correction: [n, d + 2], see `evals.fold_side`."""
        return evals.fold_side(side, z, self.bank, self.correction)

    def line(self) -> str:
        """As in "hubness correction nnn:k=16,strength=0.5; bank of 600 and 3000 training items"."""
        origin = f" ({self.origin})" if self.origin else ""
        size = f"; bank of {len(self.bank.a)} and {len(self.bank.b)} training items" if self.correction else ""
        return f"hubness correction {self.correction}{origin}{size}"


def run_hubness(built: Built, bank: evals.QueryBank, val: Callable[[], evals.SplitEmbeddings]) -> RunHubness:
    """The correction of a trained model by `eval.hubness`.

    Args:
      built: the run.
      bank: embeddings of its training items by this model.
      val: () -> embeddings of its validation split by this model; called for "auto" alone.
    """
    text = str(ConfigDict(built.experiment.config).eval.hubness)
    if text != AUTO:
        return RunHubness(bank, HubnessCorrection.parse(text))
    if "val" not in built.experiment.evaluations:
        return RunHubness(bank, HubnessCorrection(), "there is no val to choose on")
    held_out = val()
    if len(held_out.a) < _LEAST:
        return RunHubness(bank, HubnessCorrection(), f"{len(held_out.a)} items of val are too few to choose on")
    correction, best, plain = evals.choose_correction(held_out, bank)
    how = f"rsum {best:.1f} on val instead of {plain:.1f}" if correction else "none is better on val"
    return RunHubness(bank, correction, how)


def save_query_bank(folder: pathlib.Path, found: RunHubness | None, *, step: int, seed: int) -> None:
    """Writes query_bank.npz; None removes that of an earlier run.

    Args:
      folder: of the run.
      found: bank and correction of its best model.
      step: of the checkpoint that the embeddings are of.
      seed: of the draw of the items.
    """
    path = folder / FILE
    if found is None:
        path.unlink(missing_ok=True)
        return
    texts = {"correction": str(found.correction), "origin": found.origin}
    numbers = {"step": np.int64(step), "seed": np.int64(seed)}
    arrays = {"a": found.bank.a, "b": found.bank.b}
    write_npz_atomic(path, {**arrays, **{name: np.str_(text) for name, text in texts.items()}, **numbers})


def load_query_bank(workdir: Folder, *, step: int) -> RunHubness:
    """The query bank of a run.

    Args:
      workdir: of the run.
      step: of the loaded checkpoint.

    Raises:
      RunError: there is no bank, it is of another checkpoint, or it is damaged.
    """
    path = run_folder(workdir) / FILE
    again = "run the train command again, with eval.bank_size above 0, to write it"
    if not path.is_file():
        raise RunError(f"{path} is missing, the training items that a hubness correction needs as queries; {again}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            bank, own = evals.QueryBank(stored["a"], stored["b"]), int(stored["step"])
            correction, origin = HubnessCorrection.parse(str(stored["correction"])), str(stored["origin"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, AlignmentError) as error:
        raise RunError(f"{path} cannot be read ({error}); {again}") from error
    if own != step:
        raise RunError(f"{path} is of step {own}, but the best checkpoint is of step {step}; {again}")
    return RunHubness(bank, correction, origin)


def asked_hubness(workdir: Folder, asked: bool | str, *, step: int, setting: str = "hubness") -> RunHubness | None:
    """The bank of a run with the correction that somebody asks for; None for none.

    Args:
      workdir: of the run.
      asked: True or "auto" for the correction of the run, nnn where it has none; False or "none" for none; otherwise
        a correction as text, such as "csls:k=10".
      step: of the loaded checkpoint.
      setting: the name of `asked` in messages.

    Raises:
      ConfigError: the text cannot be read.
      RunError: as `load_query_bank`.
    """
    if asked is False or asked == NONE:
        return None
    own = asked is True or asked == AUTO
    wanted = None if own else HubnessCorrection.parse(str(asked), setting=setting)
    found = load_query_bank(workdir, step=step)
    if wanted is not None:
        return dataclasses.replace(found, correction=wanted, origin="")
    if found.correction:
        return found
    why = found.origin or f"eval.hubness={NONE}"
    return dataclasses.replace(found, correction=_DEFAULT, origin=f"the run has none: {why}")
