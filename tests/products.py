"""Counts large matrix products in a traced function, and finds dependencies between operations."""

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Var


def products(jaxpr, smallest):
    """Matrix products with at least `smallest` multiplications, at any depth; a loop body counts once."""
    count = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            inner = np.prod([equation.invars[0].aval.shape[i] for i in contracted])
            count += int(np.prod(equation.outvars[0].aval.shape) * inner >= smallest)
        counts = [products(body, smallest) for body in bodies(equation)]
        # Only one branch of a conditional runs; the usual one is the cheapest.
        count += min(counts) if equation.primitive.name == "cond" else sum(counts)
    return count


def bodies(equation):
    """The jaxprs inside an equation: of a loop, a conditional, a call."""
    inside = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: isinstance(x, (Jaxpr, ClosedJaxpr)))
    return [x.jaxpr if isinstance(x, ClosedJaxpr) else x for x in inside if isinstance(x, (Jaxpr, ClosedJaxpr))]


def scan_bodies(jaxpr):
    """The body of every scan, the outer ones first."""
    for equation in jaxpr.eqns:
        for body in bodies(equation):
            if equation.primitive.name == "scan":
                yield body
            yield from scan_bodies(body)


def contains(jaxpr, primitive):
    """Whether a jaxpr contains this primitive, at any depth."""
    return any(_is(equation, primitive) for equation in jaxpr.eqns)


def waiting(jaxpr, primitive, other):
    """Equations of a jaxpr that contain `primitive` and cannot start before one that contains `other` has ended.

    Follows the data from equation to equation, their inner jaxprs taken whole. Returns the names of the equations.
    """
    late, found = set(), []
    for equation in jaxpr.eqns:
        waits = any(isinstance(x, Var) and x in late for x in equation.invars)
        inside = _is(equation, primitive) and _is(equation, other)
        if _is(equation, primitive) and (waits or inside):
            found.append(equation.primitive.name)
        if waits or _is(equation, other):
            late.update(equation.outvars)
    return found


def _is(equation, primitive):
    return equation.primitive.name == primitive or any(contains(body, primitive) for body in bodies(equation))
