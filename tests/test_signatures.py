"""Signatures of the functional subpackages are stable (CONTRIBUTING.md): a change is made in signatures.txt too.

After a deliberate change, noted in CHANGELOG.md: python tests/test_signatures.py
"""

import importlib
import inspect
import pathlib

STORED = pathlib.Path(__file__).resolve().parent / "signatures.txt"
SUBPACKAGES = (
    "balance",
    "baselines",
    "losses",
    "metrics",
    "perturb",
    "regularizers",
    "retrieval",
    "sampling",
    "schedules",
    "similarity",
    "weighting",
)


def lines(name, found):
    """One line for a function; for a class one for its constructor and one for each public method."""
    if not callable(found):
        return [name]
    made = [f"{name}{inspect.signature(found)}"]
    if inspect.isclass(found):
        for attribute, value in sorted(vars(found).items()):
            if inspect.isfunction(value) and not attribute.startswith("_"):
                made.append(f"{name}.{attribute}{inspect.signature(value)}")
    return made


def signatures():
    modules = [(each, importlib.import_module(f"alignment_jax.{each}")) for each in SUBPACKAGES]
    return [
        line
        for subpackage, module in modules
        for name in sorted(module.__all__)
        for line in lines(f"{subpackage}.{name}", getattr(module, name))
    ]


def test_public_signatures_are_those_that_were_promised():
    assert signatures() == STORED.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    STORED.write_text("\n".join(signatures()) + "\n", encoding="utf-8")
