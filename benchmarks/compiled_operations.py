"""Operations and bytes of a compiled program, read from its HLO text: matrix products, and what chips exchange.

The compiler's own `cost_analysis` counts the body of a loop once; here it counts as often as the loop runs.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator

# A TPU's matrix unit multiplies bfloat16; a float32 product is as many of these as its precision needs.
PASSES = {"default": 1, "high": 3, "highest": 6}
ALGORITHMS = {"dot_bf16_bf16_f32": 1, "dot_bf16_bf16_f32_x3": 3, "dot_bf16_bf16_f32_x6": 6}
COLLECTIVES = ("all-gather", "collective-permute", "reduce-scatter", "all-to-all", "all-reduce")
_BITS = {"bf16": 16, "f16": 16, "f32": 32, "f64": 64, "pred": 8}
_NAME = r"%?([\w.\-]+)"
_COMPUTATION = re.compile(rf"^(ENTRY )?{_NAME} \(.*\{{$")
_INSTRUCTION = re.compile(rf"^\s+(?:ROOT )?{_NAME} = (.*?) ([a-z][\w\-]*)\((.*)$")
_SHAPE = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body|branch_computations|called_computations)=\{?([%\w.\-, ]+)\}?")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of HLO: `name = shape opcode(operands), attributes`."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str

    def attribute(self, name: str) -> str:
        found = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^,\s]+)", self.rest)
        return found.group(1) if found else ""


@dataclasses.dataclass
class Counts:
    """Of one chip and one run of the program.

    products: operations of matrix products and convolutions, two a multiplication. passes: the same, times the bfloat16
    passes of each. sent: collective -> bytes of its operands.
    """

    products: float = 0.0
    passes: float = 0.0
    sent: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, other: Counts, times: int = 1) -> None:
        self.products += times * other.products
        self.passes += times * other.passes
        self.sent.update({name: times * size for name, size in other.sent.items()})


def count(text: str) -> Counts:
    """The counts of a compiled program.

    Raises:
      ValueError: a loop runs a number of times that the text does not give.
    """
    return _Program(text).entry()


def occurrences(text: str, collective: str) -> int:
    """How often the text names a collective; in a loop once."""
    return len(re.findall(rf"\b{collective}(?:-start)?\(", text))


class _Program:
    def __init__(self, text: str):
        self._computations: dict[str, dict[str, Instruction]] = {}
        self._entry, self._counted = "", {}
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            if found := _COMPUTATION.match(line):
                current = self._computations[found.group(2)] = {}
                if found.group(1):
                    self._entry = found.group(2)
            elif found := _INSTRUCTION.match(line):
                name, shape, opcode, rest = found.groups()
                inside, attributes = _closed(rest)
                current[name] = Instruction(name, shape, opcode, tuple(re.findall(r"%([\w.\-]+)", inside)), attributes)
                if opcode == "constant":
                    current[name] = dataclasses.replace(current[name], rest=inside)

    def entry(self) -> Counts:
        return self._count(self._entry)

    def _count(self, name: str) -> Counts:
        if name not in self._counted:
            total = Counts()
            for instruction in self._computations[name].values():
                total.add(self._count_one(instruction, self._computations[name]))
            self._counted[name] = total
        return self._counted[name]

    def _count_one(self, one: Instruction, among: dict[str, Instruction]) -> Counts:
        total = Counts()
        if one.opcode in ("dot", "convolution"):
            left, right = (among[name].shape for name in one.operands[:2])
            total.products = (_dot if one.opcode == "dot" else _convolution)(one, left, right)
            total.passes = total.products * _passes(one, left, right)
        kind = one.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            total.sent[kind] = sum(_bytes(among[name].shape) for name in one.operands)
        elif one.opcode == "while":
            for part in self._called(one):
                total.add(self._count(part), self._trips(one, among))
        elif one.opcode != "custom-call":
            for part in self._called(one):
                total.add(self._count(part))
        return total

    def _called(self, one: Instruction) -> Iterator[str]:
        for found in _CALLED.finditer(one.rest):
            yield from (
                name.strip(" %") for name in found.group(1).split(",") if name.strip(" %") in self._computations
            )

    def _trips(self, loop: Instruction, among: dict[str, Instruction]) -> int:
        if found := re.search(r'known_trip_count"?:\{"?n"?:"?(\d+)', loop.rest):
            return int(found.group(1))
        condition = self._computations[loop.attribute("condition").strip("%")]
        root = list(condition.values())[-1]
        if root.opcode == "compare" and root.attribute("direction") == "LT":
            counter, limit = (condition[name] for name in root.operands)
            start = among[among[loop.operands[0]].operands[int(counter.attribute("index") or -1)]]
            while start.opcode in ("copy", "bitcast", "copy-done", "copy-start"):
                start = among[start.operands[0]]
            if limit.opcode == start.opcode == "constant":
                return int(limit.rest) - int(start.rest)
        raise ValueError(f"the length of the loop {loop.name} is not in the program")


def _closed(text: str) -> tuple[str, str]:
    """The text up to the bracket that closes it, and what follows."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[:place], text[place + 1 :]
    return text, ""


def _sizes(shape: str) -> tuple[int, ...]:
    found = _SHAPE.search(shape)
    assert found, shape
    return tuple(int(size) for size in found.group(2).split(",") if size)


def _bytes(shape: str) -> float:
    def width(kind: str) -> int:
        return _BITS.get(kind) or int(re.findall(r"\d+", kind)[0])

    return sum(
        math.prod(int(x) for x in sizes.split(",") if x) * width(kind) / 8 for kind, sizes in _SHAPE.findall(shape)
    )


def _passes(one: Instruction, left: str, right: str) -> int:
    if not left.startswith("f32") or not right.startswith("f32"):
        return 1
    if algorithm := one.attribute("algorithm"):
        return ALGORITHMS[algorithm]
    return max(PASSES[name] for name in (one.attribute("operand_precision").strip("{}") or "default").split(","))


def _dot(one: Instruction, left: str, right: str) -> float:
    del right
    contracted = [int(axis) for axis in one.attribute("lhs_contracting_dims").strip("{}").split(",") if axis]
    return 2.0 * math.prod(_sizes(one.shape)) * math.prod(_sizes(left)[axis] for axis in contracted)


def _convolution(one: Instruction, left: str, right: str) -> float:
    """Only products with a number of the input count: a TPU's batched product is a convolution with holes."""
    lhs, rhs, out = re.split("_|->", one.attribute("dim_labels"))
    inputs, kernel, result = _sizes(left), _sizes(right), _sizes(one.shape)
    features = kernel[rhs.index("i")]  # of one group
    total = 2.0 * result[out.index("b")] * result[out.index("f")] * features
    total /= int(one.attribute("batch_group_count") or 1)
    window = dict(re.findall(r"(\w+)=(\S+)", one.attribute("window").strip("{}")))
    axes = sorted(label for label in lhs if label.isdigit())
    for place, label in enumerate(axes):

        def option(name: str, default: int, place: int = place) -> int:
            return int(window[name].split("x")[place]) if name in window else default

        low = int(window["pad"].split("x")[place].split("_")[0]) if "pad" in window else 0
        total *= _hits(
            inputs[lhs.index(label)],
            kernel[rhs.index(label)],
            result[out.index(label)],
            option("stride", 1),
            low,
            option("lhs_dilate", 1),
            option("rhs_dilate", 1),
        )
    return total


def _hits(inputs: int, kernel: int, outputs: int, stride: int, low: int, spread: int, dilation: int) -> int:
    """Pairs of an output and a kernel position, along one axis, that meet a number of the input."""
    places = (o * stride + k * dilation - low for o, k in itertools.product(range(outputs), range(kernel)))
    return sum(0 <= place <= (inputs - 1) * spread and place % spread == 0 for place in places)
