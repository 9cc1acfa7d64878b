"""Two processes that hold half of the batch each, against one that holds it all.

The processes are this file run as a script: `python test_similarity_processes.py ADDRESS PROCESS OUT.npz`.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from float_bounds import agreement

N, D = 32, 6
FORMS = ("ring:3", "gathered:3")


def batch():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(N, D))
    b = a + 0.5 * rng.normal(size=(N, D))
    a, b = (np.float32(z / np.linalg.norm(z, axis=1, keepdims=True)) for z in (a, b))
    where = np.ones(N, bool)
    where[[1, 2, 3, 9, 30]] = False  # uneven between the processes
    return a, b, np.float32(rng.uniform(0.05, 0.2, N)), where


def differentiate(a, b, own, where, *, similarity, axis_name=None):
    """Values and gradients of the three losses together."""
    import jax

    from alignment_jax import losses

    def loss(a, b, own):
        common = dict(where=where, axis_name=axis_name)
        pairs = (
            losses.infonce(a, b, temperature=own, smoothing=0.1, similarity=similarity, **common),
            losses.max_margin(a, b, margin=own, similarity=similarity, **common),
            (losses.sigmoid(a, b, similarity=similarity, **common),),
        )
        return sum(losses.reduce(*pair, **common) for pair in pairs), [x for pair in pairs for x in pair]

    (_, values), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(a, b, own)
    return *values, *gradients


def work(address, process, out):
    """One of the two processes: joins, computes on its half, and the first writes the results of both."""
    import jax
    from jax.experimental import multihost_utils
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, num_processes=2, process_id=process, initialization_timeout=600)
    assert (jax.process_count(), jax.device_count(), jax.local_device_count()) == (2, 4, 2)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("i",))
    half = slice(process * N // 2, (process + 1) * N // 2)
    shards = [jax.make_array_from_process_local_data(NamedSharding(mesh, P("i")), x[half]) for x in batch()]
    found = {}
    for form in FORMS:

        def local(*arguments, form=form):
            return differentiate(*arguments, similarity=form, axis_name="i")

        run = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=P("i"), out_specs=P("i")))
        for k, x in enumerate(multihost_utils.process_allgather(run(*shards), tiled=True)):
            found[f"{form} {k}"] = np.asarray(x)
    if process == 0:
        np.savez(out, **found)


def start(address, process, out):
    environment = dict(os.environ, JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="2")
    command = [sys.executable, __file__, address, str(process), str(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    import jax
    from several_processes import free_port  # this file is also run as a script

    address = f"127.0.0.1:{free_port()}"
    processes = [start(address, process, tmp_path / "found.npz") for process in (0, 1)]
    try:
        outputs = [process.communicate(timeout=900)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    expected = [np.asarray(x) for x in jax.jit(lambda *x: differentiate(*x, similarity="dense"))(*batch())]
    with np.load(tmp_path / "found.npz") as found:
        assert len(found.files) == len(FORMS) * len(expected)
        for name in found.files:
            x = expected[int(name.split()[-1])]
            atol = agreement(N, D, 0.05) * np.abs(x).max()
            np.testing.assert_allclose(found[name], x, rtol=0, atol=atol, err_msg=name)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), sys.argv[3])
