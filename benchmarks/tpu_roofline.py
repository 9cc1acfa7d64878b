"""The least time of programs on TPU slices: counts of the compiled programs over published peak rates.

    python benchmarks/tpu_compile.py --write
    python benchmarks/tpu_roofline.py --write

Nothing is measured here. Operations and bytes are those that `tpu_compile.py` reads from each program; the rates are
what Google publishes for one chip. So the times are lower bounds: what a perfect processor would need for that program.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from sections import write_section
from tpu_compile import LARGE_STEP, ONE_CHIP, RECORD, title

from alignment_jax.report import read_rows, table, to_markdown

ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip: bfloat16 FLOP/s, bytes of memory and bytes/s to it, bytes/s of one link one way, links."""

    name: str
    flops: float
    memory: float
    bandwidth: float
    link: float
    links: int


# docs.cloud.google.com/tpu/docs/{v5e,v5p,v6e}: bidirectional bandwidth per chip is 400, 1200 and 800 GB/s, over 4, 6
# and 4 links of two directions.
CHIPS = (
    Chip("v5e", 197e12, 16e9, 819e9, 50e9, 4),
    Chip("v5p", 459e12, 95e9, 2765e9, 100e9, 6),
    Chip("v6e", 918e12, 32e9, 1640e9, 100e9, 4),
)


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Seconds that a program needs at least: for its products, for its memory, and for the exchange between chips."""

    products: float
    memory: float
    exchange: float

    @property
    def program(self) -> float:
        """Everything at the same time."""
        return max(self.products, self.memory, self.exchange)


def bounds(chip: Chip, chips: int, counts: Mapping[str, Any]) -> Bounds:
    """The bounds of one program.

    Args:
      chip, chips: of the slice.
      counts: of one chip. passes: operations of bfloat16 products. held: bytes of inputs and outputs, each of which
        crosses the memory once. sent: collective -> bytes of its operands.
    """
    return Bounds(
        products=counts["passes"] / chip.flops,
        memory=counts["held"] / chip.bandwidth,
        exchange=sum(exchange(chip, chips, kind, size) for kind, size in counts["sent"].items()),
    )


def exchange(chip: Chip, chips: int, collective: str, size: float) -> float:
    """Seconds of a collective with operands of `size` bytes: a neighbour's over one link, the others over all links."""
    every = chip.link * chip.links
    if collective == "collective-permute":
        return size / chip.link
    # An all-gather receives the operands of all others; the others move what does not stay on the chip.
    moved = chips - 1 if collective == "all-gather" else (chips - 1) / chips
    return size * moved * (2 if collective == "all-reduce" else 1) / every


def chip_of(line: Mapping[str, Any]) -> Chip:
    """The chip of a line of the record."""
    (chip,) = (chip for chip in CHIPS if line["slice"].startswith(chip.name))
    return chip


def ring_hides_from(chip: Chip, line: Mapping[str, Any]) -> float:
    """Rows a chip from which a ring's exchange takes no longer than its products.

    Twice the rows a chip need four times the products, and send twice the bytes.
    """
    found = bounds(chip, line["chips"], line)
    return line["batch"] / line["chips"] * found.exchange / found.products


def text(lines: list[dict[str, Any]]) -> str:
    """The section of the page."""
    rows, rings = [], {}
    for line in lines:
        if line["products"] is None or line["what"].endswith(ONE_CHIP):
            continue
        # A traced program is the same for every chip.
        for chip in CHIPS if line["what"] == LARGE_STEP else (chip_of(line),):
            found = bounds(chip, line["chips"], line)
            times = (found.products, found.memory, found.exchange, found.program)
            rows.append(
                [
                    f"{chip.name}, {line['chips']} chips",
                    title(line),
                    f"{line['batch']:,}",
                    f"{line['products'] / 1e9:,.0f}",
                    f"{line['passes'] / line['products']:.2f}",
                    f"{sum(line['sent'].values()) / 2**20:,.0f}",
                    *(f"{1e3 * seconds:,.3f}" for seconds in times),
                ]
            )
            if (line["what"], line["form"], line["chips"]) == ("infonce", "ring", 8):
                rings[chip.name] = ring_hides_from(chip, line)
    names = [
        *("slice", "program", "batch", "products, GFLOP a chip", "bfloat16 passes a product", "sent, MiB a chip"),
        *("products, ms", "memory, ms", "exchange, ms", "at least, ms"),
    ]
    parts = [f"`python benchmarks/tpu_roofline.py --write`.\n\n{to_markdown(table(names, rows))}\n"]
    limits = [[name, f"{found:,.0f}"] for name, found in rings.items()]
    parts.append("Rows a chip from which the exchange of the compiled ring takes no longer than its products:\n")
    parts.append(to_markdown(table(["chip", "rows, bfloat16"], limits)))
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=pathlib.Path, default=RECORD, help="of tpu_compile.py")
    parser.add_argument("--write", action="store_true", help="rewrite the tables in benchmarks/results/tpu.md")
    arguments = parser.parse_args()
    shown = text(read_rows(arguments.record))
    if arguments.write:
        write_section("roofline", shown, page=ROOT / "benchmarks" / "results" / "tpu.md")
    print(shown)


if __name__ == "__main__":
    main()
