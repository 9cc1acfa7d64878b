"""The matrix products of a program alone: the time that it cannot go below."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tpu_encoders import equations, programs


@dataclasses.dataclass(frozen=True)
class Product:
    """Shapes, types and axes of a `dot_general`."""

    left: tuple[tuple[int, ...], str]
    right: tuple[tuple[int, ...], str]
    dimension_numbers: Any
    precision: Any
    out: Any


def products_of(jaxpr: Any) -> Counter[Product]:
    """Each product of a traced program and how often it is computed; of a loop, its length times.

    Raises:
      ValueError: a product in a `while` loop, whose length is not in the program.
    """
    found: Counter[Product] = Counter()
    for equation, count in equations(jaxpr):
        parameters = equation.params
        if equation.primitive.name == "dot_general":
            left, right = ((v.aval.shape, str(v.aval.dtype)) for v in equation.invars)
            kind = parameters["preferred_element_type"]
            found[Product(left, right, parameters["dimension_numbers"], parameters["precision"], kind)] += count
        elif equation.primitive.name == "while" and any(map(products_of, programs(parameters))):
            raise ValueError("a product in a loop of unknown length")
    return found


def products_alone(products: Counter[Product]) -> Callable[[], list[jax.Array]]:
    """A function that computes the products and nothing else, compiled; several equal ones in a loop."""

    def numbers(shape: tuple[int, ...], kind: str) -> jax.Array:
        return jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32), kind)

    operands = [(numbers(*product.left), numbers(*product.right)) for product in products]

    @jax.jit
    def run(operands: list[tuple[jax.Array, jax.Array]]) -> list[jax.Array]:
        results = []
        for (product, count), (left, right) in zip(products.items(), operands, strict=True):

            def one(left: jax.Array, right: jax.Array = right, product: Product = product) -> jax.Array:
                return jax.lax.dot_general(
                    left,
                    right,
                    product.dimension_numbers,
                    precision=product.precision,
                    preferred_element_type=product.out,
                )

            if count == 1:
                results.append(one(left))
                continue

            def turn(carry: tuple[jax.Array, jax.Array], _: None, one: Any = one) -> Any:
                left, last = carry
                # Without it the compiler takes the product, the same in every turn, out of the loop.
                left, last = jax.lax.optimization_barrier((left, last))
                return (left, one(left)), None

            shape = jax.eval_shape(one, left)
            start = (left, jnp.zeros(shape.shape, shape.dtype))
            results.append(jax.lax.scan(turn, start, length=count)[0][1])
        return results

    return lambda: run(operands)
