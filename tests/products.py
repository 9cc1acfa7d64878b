"""How many large matrix products a traced function makes."""

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr


def products(jaxpr, smallest):
    """Matrix products with at least `smallest` multiplications, wherever they stand; a loop body counts once."""
    count = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            inner = np.prod([equation.invars[0].aval.shape[i] for i in contracted])
            count += int(np.prod(equation.outvars[0].aval.shape) * inner >= smallest)
        bodies = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: isinstance(x, (Jaxpr, ClosedJaxpr)))
        inside = [x.jaxpr if isinstance(x, ClosedJaxpr) else x for x in bodies if isinstance(x, (Jaxpr, ClosedJaxpr))]
        counts = [products(body, smallest) for body in inside]
        # Only one branch of a conditional runs; the usual one is the cheapest.
        count += min(counts) if equation.primitive.name == "cond" else sum(counts)
    return count
