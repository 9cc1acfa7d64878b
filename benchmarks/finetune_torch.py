"""PyTorch's side of `finetune.py`: a plain loop over transformers' model. Needs torch, transformers and numpy alone.

python benchmarks/finetune_torch.py CASE TUNE FOLDER    # takes turns, see `turns.serve`
"""

from __future__ import annotations

import itertools
import math
import pathlib
import sys
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from finetune import BATCHES, CASES, Case
from torch import nn
from turns import resident, serve

PIXEL_MEAN, PIXEL_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP


class LoRA(nn.Module):
    """x W + bias + (x A) B, with frozen W and bias."""

    def __init__(self, base: nn.Linear, a: np.ndarray, b: np.ndarray):
        super().__init__()
        self.base = base
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, x):
        return self.base(x) + (x @ self.a) @ self.b


class Towers(nn.Module):
    """Both sides: a batch to unit vectors [n, d] of each, and the logarithm of the temperature."""

    def __init__(self, case: Case, folder: pathlib.Path, start: Any):
        super().__init__()
        self.latents = bool(case.latents)
        if self.latents:
            self.model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False)
        else:
            self.model = transformers.CLIPModel.from_pretrained(folder)
            del self.model.logit_scale
            self.register_buffer("mean", torch.tensor(PIXEL_MEAN)[:, None, None])
            self.register_buffer("std", torch.tensor(PIXEL_STD)[:, None, None])
        adapted = [name.removeprefix("lora_a/") for name in start if name.startswith("lora_a/")]
        if adapted:
            self.model.requires_grad_(False)
            for name in adapted:
                parent, _, own = name.rpartition(".")
                parent = self.model.get_submodule(parent)
                setattr(parent, own, LoRA(getattr(parent, own), start[f"lora_a/{name}"], start[f"lora_b/{name}"]))
        if self.latents:
            self.project_a, self.project_b = (self._affine(start, f"project_{side}") for side in "ab")
        self.log_temperature = nn.Parameter(torch.tensor(start["log_temperature"]))

    def forward(self, a, b):
        if self.latents:
            mask = b != 0
            tokens = self.model(input_ids=b, attention_mask=mask.long()).last_hidden_state
            mean = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            za, zb = self.project_a(F.normalize(a)), self.project_b(F.normalize(mean))
            return F.normalize(za), F.normalize(zb)
        pixels = (a.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        images = self.model.visual_projection(self.model.vision_model(pixels).pooler_output)
        texts = self.model.text_projection(self.model.text_model(b).pooler_output)
        return F.normalize(images), F.normalize(texts)

    @staticmethod
    def _affine(start: Any, name: str) -> nn.Linear:
        made = nn.Linear(*start[f"{name}/kernel"].shape)
        made.weight.data = torch.tensor(np.ascontiguousarray(start[f"{name}/kernel"].T))
        made.bias.data = torch.tensor(start[f"{name}/bias"])
        return made


def groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Kernels alone are decayed, but no LoRA matrices, embeddings, norms or biases."""
    kernels = {id(m.weight) for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed, others = ([p for p in trained if (id(p) in kernels) == wanted] for wanted in (True, False))
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def main(case: Case, folder: pathlib.Path) -> None:
    libraries = resident()
    torch.set_num_threads(2)
    transformers.utils.logging.disable_progress_bar()
    with np.load(folder / "start.npz") as file:
        start = dict(file)
    batches = [[torch.from_numpy(start.pop(f"batch{k}/{side}")) for side in "ab"] for k in range(BATCHES)]
    model = Towers(case, folder, start).train()
    clip = float(start["clip"])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        groups(model, float(start["weight_decay"])),
        lr=float(start["learning_rate"]),
        betas=(float(start["b1"]), float(start["b2"])),
        fused=True,  # faster than the default on this machine
    )
    del start
    labels, order = torch.arange(case.batch), itertools.cycle(batches)

    def step():
        za, zb = model(*next(order))
        logits = za @ zb.T / model.log_temperature.exp()
        loss = 0.5 * (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trained, clip)
        optimizer.step()
        with torch.no_grad():
            model.log_temperature.clamp_(math.log(0.001), math.log(0.5))
        return loss.detach(), norm

    def run(count: int) -> list[list[float]]:
        return [[float(loss), float(norm)] for loss, norm in [step() for _ in range(count)]]

    first = {"libraries": libraries, "trained": sum(p.numel() for p in trained), "steps": run(BATCHES)}
    serve({**first, "versions": f"torch {torch.__version__}, transformers {transformers.__version__}"}, run)


if __name__ == "__main__":
    name, _, where = sys.argv[1:]
    main(CASES[name], pathlib.Path(where))
