"""How hard XLA works on the programs that the tests compile.

Most tests ask what a program does, and most of their time was XLA's: they are compiled `quickly`, with little
optimisation. Tests whose subject is what users run (rounding, memory, bits, whole commands) are marked `optimized` and
leave XLA as it is.
"""

import functools
import os

import jax
import pytest
from jax._src import compiler

# LLVM without its costly passes, XLA's older loop emitters, which compile several times faster than its fusions', and
# one LLVM module per program: to split small ones costs more than their parallel compilation saves.
_WANTED = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


@functools.cache
def quick_options():
    """Those of the options that the installed XLA has: some come and go with its versions."""

    def is_known(name, value):
        try:
            jax.jit(lambda x: x).lower(0.0).compile(compiler_options={name: value})
        except jax.errors.JaxRuntimeError as error:
            if "No such compile option" in str(error):
                return False
            raise
        return True

    return {name: value for name, value in _WANTED.items() if is_known(name, value)}


_AS_ASKED = os.environ.get("XLA_FLAGS", "")
_get_compile_options = compiler.get_compile_options
_quick = False


def _options(*args, **kwargs):
    options = _get_compile_options(*args, **kwargs)
    if _quick:
        # The compiler_options of a jax.jit come last and win.
        options.env_option_overrides = [*quick_options().items(), *options.env_option_overrides]
    return options


# JAX has options for one jax.jit and flags for a whole process, and nothing in between.
compiler.get_compile_options = _options


def compile_quickly(quick: bool) -> None:
    """Sets the compiler level of this process and of the processes that it starts."""
    global _quick
    options = quick_options() if quick else {}  # asks XLA at its own level, so before anything changes
    if quick != _quick:
        jax.clear_caches()  # a program compiled at the other level would be found
    _quick = quick
    if quick:
        flags = [f"--{name}={str(value).lower()}" for name, value in options.items()]
        os.environ["XLA_FLAGS"] = " ".join([*flags, _AS_ASKED]).strip()
    elif _AS_ASKED:
        os.environ["XLA_FLAGS"] = _AS_ASKED
    else:
        os.environ.pop("XLA_FLAGS", None)


@pytest.hookimpl(tryfirst=True)  # before the test's fixtures, which compile too
def pytest_runtest_setup(item):
    """Sets the level that the test is marked for."""
    compile_quickly(item.get_closest_marker("optimized") is None)
