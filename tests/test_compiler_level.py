"""A test is compiled at the level that it is marked for, and neither level finds the other's programs."""

import os
import subprocess
import sys

import compiler_level
import jax
import numpy as np
import pytest
from compiler_level import compile_quickly, quick_options
from jax.experimental.compilation_cache import compilation_cache

FLAGS = [f"--{name}=" for name in quick_options()]


@pytest.fixture
def cached(tmp_path):
    """Names of the programs in a persistent cache of this test's own."""
    before = jax.config.jax_compilation_cache_dir
    compilation_cache.set_cache_dir(str(tmp_path))
    compilation_cache.reset_cache()
    yield lambda: {path.name for path in tmp_path.glob("*-cache")}
    compilation_cache.set_cache_dir(before)
    compilation_cache.reset_cache()


def inherited():
    """The flags that a process started here would give to XLA."""
    command = [sys.executable, "-c", "import os; print(os.environ.get('XLA_FLAGS', ''))"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_test_without_a_mark_compiles_quickly():
    assert all(flag in inherited() for flag in FLAGS)


@pytest.mark.optimized
def test_a_marked_test_compiles_as_users_do():
    assert not any(flag in inherited() for flag in FLAGS)


def test_each_level_has_its_own_programs(cached):
    """Also in memory: a function compiled at one level is compiled again at the other."""
    double = jax.jit(lambda x: 2 * x)
    found = []
    try:
        for quick in (True, False, True, False):
            compile_quickly(quick)
            double(np.ones(3, np.float32)).block_until_ready()
            found.append(cached())
    finally:
        compile_quickly(True)
    assert [len(names) for names in found] == [1, 2, 2, 2]


def test_flags_that_were_asked_for_stay(monkeypatch):
    monkeypatch.setattr(compiler_level, "_AS_ASKED", "--xla_cpu_max_isa=AVX2")
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])
    try:
        compile_quickly(True)
        assert os.environ["XLA_FLAGS"].endswith("--xla_cpu_max_isa=AVX2")
        compile_quickly(False)
        assert os.environ["XLA_FLAGS"] == "--xla_cpu_max_isa=AVX2"
    finally:
        compile_quickly(True)
