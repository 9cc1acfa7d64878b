"""Reading of JPEG photographs for training at 224 pixels: decoders, threads, processes, and what an accelerator needs.

    python benchmarks/input.py --images Flickr8k/Images --out benchmarks/results/input_cpu.md

Photographs of two sizes are made from those of the folder, as mosaics, so that their details are those of photographs.
Every side decodes and makes a random resized crop. Other decoders are measured where they are installed: `pip install
simplejpeg opencv-python-headless`; the package does not need them. CPU seconds are those of all threads and processes,
which other programs on the machine change little. Sides take turns; the median round is shown.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import io
import math
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
from absl import flags
from PIL import Image

from alignment_jax import data
from alignment_jax.data.open_image import _MARGIN as MARGIN
from alignment_jax.data.open_image import open_image
from alignment_jax.data.transforms import decode_image, shrink
from alignment_jax.report import environment, table, to_markdown

PIXELS = 224
SHORTER = 317  # what the loader keeps for crops of half of the area: 224 * 2 ** 0.5
SIZES = ((500, 375), (1300, 975), (1600, 1200))  # of Flickr8k and COCO, with odd sides, of a phone's smaller pictures
TRANSFORM = data.train_image(PIXELS)
# A training step of ViT-B/16 takes three times the 35.1 GFLOP of its forward pass (benchmarks/results/tpu.md).
V5E_FLOPS, VIT_B16_FLOPS = 197e12, 3 * 35.1e9


def mosaics(folder: pathlib.Path, size: tuple[int, int], count: int, out: pathlib.Path) -> list[pathlib.Path]:
    """`count` JPEG files of this size, each from several photographs of the folder side by side."""
    sources = iter(sorted(folder.glob("*.jpg")) * 100)
    made = []
    for number in range(count):
        picture, x, y, row = Image.new("RGB", size), 0, 0, 0
        while y < size[1]:
            with Image.open(next(sources)) as one:
                picture.paste(one, (x, y))
                x, row = x + one.width, max(row, one.height)
            if x >= size[0]:
                x, y, row = 0, y + row, 0
        made.append(out / f"{size[0]}_{number}.jpg")
        picture.save(made[-1], quality=90)
    return made


def with_pillow(path: pathlib.Path) -> np.ndarray:
    with open_image(path, where=str(path)) as image:
        return np.asarray(image.convert("RGB"))


def with_simplejpeg(path: pathlib.Path) -> np.ndarray:
    import simplejpeg

    # Scaled while decoding, to at least this multiple of the size that is kept, as `decode_image` does.
    least = {"min_height": int(MARGIN * SHORTER), "min_width": int(MARGIN * SHORTER)}
    return simplejpeg.decode_jpeg(path.read_bytes(), "RGB", fastdct=True, fastupsample=True, **least)


def with_opencv(path: pathlib.Path) -> np.ndarray:
    import cv2

    cv2.setNumThreads(1)
    with Image.open(io.BytesIO(head := path.read_bytes())) as image:
        ratio = min(image.size) / (MARGIN * SHORTER)
    flag = cv2.IMREAD_COLOR
    for factor, reduced in ((2, cv2.IMREAD_REDUCED_COLOR_2), (4, cv2.IMREAD_REDUCED_COLOR_4)):
        if ratio >= factor:
            flag = reduced
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(head, np.uint8), flag), cv2.COLOR_BGR2RGB)


OURS = "Pillow, scaled while decoding (the package)"
DECODERS: dict[str, tuple[str, Callable[[pathlib.Path], np.ndarray]]] = {
    OURS: ("PIL", functools.partial(decode_image, shorter_side=SHORTER)),
    "Pillow, whole": ("PIL", with_pillow),
    "simplejpeg, scaled": ("simplejpeg", with_simplejpeg),
    "OpenCV, scaled": ("cv2", with_opencv),
}


class Decoded:
    """Training rows of these files: step -> uint8 [batch, 224, 224, 3]; a process can load it from a pickle."""

    def __init__(self, files: list[pathlib.Path], batch: int):
        self.files, self.batch = files, batch

    def __len__(self) -> int:
        return len(self.files) // self.batch

    def __getitem__(self, step: int) -> np.ndarray:
        rng = np.random.default_rng(step)
        files = self.files[step * self.batch : (step + 1) * self.batch]
        return np.stack([TRANSFORM(decode_image(file, shorter_side=SHORTER), rng) for file in files])


def loader(files: list[pathlib.Path], *, threads: int = 0, processes: int = 0) -> Iterator[np.ndarray]:
    """All batches by grain, as `TrainLoader` reads them (threads), or in worker processes."""
    import grain

    source = grain.MapDataset.source(Decoded(files, 16))
    if processes:
        flags.FLAGS.mark_as_parsed()  # grain's workers read absl flags
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        return iter(source.to_iter_dataset(options).mp_prefetch(grain.MultiprocessingOptions(num_workers=processes)))
    return iter(source.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)))


def psnr(files: list[pathlib.Path]) -> float:
    """Of what the package keeps of scaled decoding, against the whole image, in dB; infinite where it is the whole."""
    errors = []
    for file in files[:8]:
        kept = decode_image(file, shorter_side=SHORTER)
        size = (kept.shape[1], kept.shape[0])
        whole = Image.fromarray(with_pillow(file)).resize(size, Image.Resampling.BILINEAR)
        errors.append(np.mean((kept.astype(float) - np.asarray(whole)) ** 2))
    return math.inf if not any(errors) else 10 * math.log10(255**2 / np.mean(errors))


def cpu_seconds() -> float:
    """Of this process and its finished workers."""
    return sum(os.times()[:4])


def measured(sides: dict[str, Callable[[], int]], rounds: int) -> dict[str, tuple[float, float]]:
    """Side -> (images per CPU second, images per second), the median round; sides take turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            cpu, wall = cpu_seconds(), time.perf_counter()
            images = side()
            if number:  # the first round warms up
                found[name].append((images / (cpu_seconds() - cpu), images / (time.perf_counter() - wall)))
    return {
        name: (statistics.median(x for x, _ in each), statistics.median(x for _, x in each))
        for name, each in found.items()
    }


def decode_all(decode: Callable[[pathlib.Path], np.ndarray], files: list[pathlib.Path]) -> int:
    rng = np.random.default_rng(0)
    for file in files:
        assert TRANSFORM(shrink(decode(file), SHORTER), rng).shape == (PIXELS, PIXELS, 3)
    return len(files)


def read_all(files: list[pathlib.Path], threads: int, processes: int) -> int:
    return sum(len(batch) for batch in loader(files, threads=threads, processes=processes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=pathlib.Path, required=True, help="folder of JPEG photographs")
    parser.add_argument("--count", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    installed = {name: one for name, (module, one) in DECODERS.items() if importlib.util.find_spec(module)}
    lines, ours, quality = [], {}, {}
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            files = mosaics(arguments.images, size, arguments.count, pathlib.Path(folder))
            found = measured(
                {name: functools.partial(decode_all, one, files) for name, one in installed.items()}, arguments.rounds
            )
            ours[size], quality[size] = found[OURS][0], psnr(files)
            shown = f"{size[0]} x {size[1]}"
            lines += [[shown, name, f"{cpu:.0f}", f"{cpu / ours[size]:.2f}"] for name, (cpu, _) in found.items()]
        ways = {f"{n} thread{'s' * (n > 1)}": (n, 0) for n in (1, cores)}
        ways |= {f"{n} process{'es' * (n > 1)}": (0, n) for n in (1, cores)}
        files = mosaics(arguments.images, SIZES[0], 2 * arguments.count, pathlib.Path(folder))
        read = measured(
            {name: functools.partial(read_all, files, *way) for name, way in ways.items()}, arguments.rounds
        )
    needed, about = (
        V5E_FLOPS / VIT_B16_FLOPS,
        environment(packages=("pillow", "grain", "simplejpeg", "opencv-python-headless")),
    )
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    text = "\n\n".join(
        [
            "# Input: JPEG photographs for training at 224 pixels",
            f"`python benchmarks/input.py --images DIR`, {about['python']}, {packages}, {cores} cores.",
            "Decoding, random resized crop and flip, one core. Above 1: faster than the package.",
            to_markdown(table(["size", "decoder", "images per CPU second", "ratio"], lines)),
            "PSNR of the package's images to those of whole decoding: "
            + ", ".join(
                f"{x:.1f} dB for {w} x {h}" if x < math.inf else f"the same for {w} x {h}"
                for (w, h), x in quality.items()
            )
            + ".",
            f"The loader of the package with grain's threads, or grain's worker processes, on {cores} cores; "
            f"{SIZES[0][0]} x {SIZES[0][1]} pixels. A round starts the workers, as an epoch does.",
            to_markdown(table(["readers", "images/s"], [[name, f"{wall:.0f}"] for name, (_, wall) in read.items()])),
            f"A chip of TPU v5e trains ViT-B/16 on at most {needed:,.0f} images/s (197 TFLOP/s, 3 x 35.1 GFLOP an "
            "image). Cores of this machine that read as many: "
            + ", ".join(f"{needed / rate:.0f} for {w} x {h} pixels" for (w, h), rate in ours.items())
            + ".",
        ]
    )
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
