"""Predicted time of a contrastive step on TPU slices, from arithmetic, bytes and published peak rates.

    python benchmarks/tpu_roofline.py --write

Nothing is measured here. Every number is a count divided by a rate that Google publishes for one chip, so the times are
lower bounds: what a perfect program would take.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

from sections import write_section

from alignment_jax.report import table, to_markdown

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
class Workload:
    """A global batch of pairs: embeddings of `dim` numbers, towers of so many parameters and FLOPs a pair.

    pair_flops: forward; backward counts twice. width: bytes of a number on the wire.
    """

    name: str
    batch: int
    dim: int
    parameters: float
    pair_flops: float
    width: int = 2


def adapters(batch: int) -> Workload:
    """Latents 1024 and 768, one residual block of expansion 4 a side and a map to 512: two FLOPs a parameter."""
    parameters = sum(8 * d * d + 512 * d for d in (1024, 768))
    return Workload("frozen latents, one block", batch, 512, parameters, 2 * parameters)


def clip_b16(batch: int) -> Workload:
    """ViT-B/16 at 224 pixels (17.6 GMAC) and a text transformer of 12 layers, width 512, 77 tokens (2.9 GMAC)."""
    return Workload("ViT-B/16 and text", batch, 512, 150e6, 2 * (17.6e9 + 2.9e9))


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Seconds of one step on one chip of many, part by part, and bytes that the loss holds."""

    loss: float
    towers: float
    ring: float
    gather: float
    gradients: float
    ring_bytes: float
    gather_bytes: float

    @property
    def with_ring(self) -> float:
        """Supposes that the exchange runs beside the loss's own arithmetic as far as that lasts."""
        return max(self.loss, self.ring) + max(self.towers, self.gradients)

    @property
    def with_gather(self) -> float:
        """The gathered side must be there before the work starts."""
        return self.loss + self.gather + max(self.towers, self.gradients)


def predict(chip: Chip, work: Workload, chips: int) -> Prediction:
    """One step of `work` on a slice of `chips`.

    Loss: four products of [batch, dim] with [batch, dim], two FLOPs a multiplication, shared by the chips. Ring: the
    other side goes round once forward and, with its float32 gradient, once backward, over one link. Gather: the same
    bytes over all links.
    """
    local = work.batch / chips
    loss = 4 * 2 * work.batch * local * work.dim / chip.flops
    towers = max(3 * work.pair_flops * local / chip.flops, 3 * 4 * work.parameters / chip.bandwidth)
    wire = (work.batch - local) * work.dim * (work.width + work.width + 4)
    # All-reduce of float32 gradients: every number leaves and comes back once.
    gradients = 2 * 4 * work.parameters * (chips - 1) / chips / (chip.link * chip.links)
    return Prediction(
        loss=loss,
        towers=towers,
        ring=wire / chip.link if chips > 1 else 0.0,
        gather=wire / (chip.link * chip.links) if chips > 1 else 0.0,
        gradients=gradients,
        # Two blocks in flight with their gradients, or the whole other side with its gradient.
        ring_bytes=2 * local * work.dim * (work.width + 4),
        gather_bytes=work.batch * work.dim * (work.width + 4),
    )


def ring_hides_from(chip: Chip, width: int = 2) -> float:
    """Rows a chip from which the ring's transfers take no longer than its products, forward and backward alike.

    Forward a hop moves rows x dim x width bytes beside 2 rows² dim FLOPs; backward (width + 4) beside three times that.
    """
    return max(width / 2, (width + 4) / 6) * chip.flops / chip.link


def rows_of(work: Workload, slices: dict[str, tuple[int, ...]]) -> list[list[str]]:
    rows = []
    for chip in CHIPS:
        for chips in slices[chip.name]:
            found = predict(chip, work, chips)
            faster = "ring" if found.with_ring < found.with_gather else "gather"
            limit = 0.25 * chip.memory
            form = "ring" if found.gather_bytes > limit else faster
            rows.append(
                [
                    f"{chip.name}, {chips:,} chips",
                    f"{work.batch:,}",
                    *(f"{1e3 * t:,.3f}" for t in (found.loss, found.towers, found.gradients, found.ring, found.gather)),
                    f"{1e3 * min(found.with_ring, found.with_gather):,.2f}",
                    form,
                    f"{found.ring_bytes / 2**20:,.0f} / {found.gather_bytes / 2**20:,.0f}",
                ]
            )
    return rows


COLUMNS = [
    "slice",
    "batch",
    "loss",
    "towers",
    "gradients",
    "ring",
    "gather",
    "step",
    "form",
    "held, MiB: ring / gather",
]
SMALL = {"v5e": (8, 256), "v5p": (8, 256), "v6e": (8, 256)}
LARGE = {"v5e": (256,), "v5p": (1024,), "v6e": (256,)}


def text() -> str:
    parts = ["`python benchmarks/tpu_roofline.py --write`. Times in milliseconds a step.\n"]
    cases = [
        (adapters(32768), SMALL),
        (clip_b16(32768), SMALL),
        (adapters(1048576), LARGE),
        (clip_b16(262144), LARGE),
    ]
    for work, slices in cases:
        parts.append(f"**{work.name}, batch {work.batch:,}**\n")
        parts.append(to_markdown(table(COLUMNS, rows_of(work, slices))) + "\n")
    limits = [[chip.name, f"{ring_hides_from(chip):,.0f}"] for chip in CHIPS]
    parts.append("Rows a chip from which the ring's transfers take no longer than its own arithmetic:\n")
    parts.append(to_markdown(table(["chip", "rows, bfloat16"], limits)))
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="rewrite the tables in benchmarks/results/tpu.md")
    if parser.parse_args().write:
        write_section("roofline", text(), page=ROOT / "benchmarks" / "results" / "tpu.md")
    print(text())


if __name__ == "__main__":
    main()
