"""A plain PyTorch loop over frozen latents: what `train_step.py` is compared with. Needs torch and numpy alone.

    python benchmarks/train_step_torch.py PAIRS BATCH STEPS

Prints {"cpu_ms": CPU milliseconds of a step} after a warm-up. The latents lie in one half-width tensor and a batch is
picked by indexing, which is faster than a DataLoader.
"""

import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

WIDTHS, DIM, EXPANSION, DROPOUT = (1024, 384), 512, 4, 0.3


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(DROPOUT)
        self.up, self.down = nn.Linear(width, EXPANSION * width), nn.Linear(EXPANSION * width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x):
        return x + self.down(self.drop(F.gelu(self.up(self.norm(x)))))


def adapter(width):
    return nn.Sequential(Block(width), nn.LayerNorm(width), nn.Linear(width, DIM))


def main(pairs, batch, steps):
    torch.manual_seed(0)
    tables = [torch.randn(pairs, width).half() for width in WIDTHS]
    models = nn.ModuleList(adapter(width) for width in WIDTHS)
    log_temperature = nn.Parameter(torch.tensor(math.log(0.07)))
    parameters = [*models.parameters(), log_temperature]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1)
    labels = torch.arange(batch)
    losses = []

    def epochs():
        while True:
            order = torch.randperm(pairs)
            for start in range(0, pairs - batch + 1, batch):
                yield order[start : start + batch]

    rows_of = epochs()

    def step():
        rows = next(rows_of)
        za, zb = (F.normalize(model(table[rows].float())) for model, table in zip(models, tables, strict=True))
        logits = za @ zb.T / log_temperature.exp().clamp(0.001, 0.5)
        loss = 0.5 * (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append((loss.detach(), norm))

    for _ in range(5):
        step()
    begin = time.process_time()
    for _ in range(steps):
        step()
    milliseconds = 1e3 * (time.process_time() - begin) / steps
    assert all(math.isfinite(float(loss)) for loss, _ in losses)
    print(json.dumps({"cpu_ms": milliseconds}))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
