"""FuseMix against the authors' own numbers: mixed latents, and gradients through the mixing.

Their adapters, loss and temperature are compared in test_golden_adapters.py.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax import perturb, schedules

pytestmark = pytest.mark.optimized

ROUNDINGS = 4 * 2.0**-24  # two products and a sum


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parent / "data" / "fusemix.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def mixed(golden, lam):
    return perturb.fusemix(golden["vis_embed"], golden["text_embed"], lam=lam)


def test_mixed_latents(golden):
    visual, text = jax.jit(jax.vmap(lambda lam: mixed(golden, lam)))(golden["lam"].astype(np.float32))
    for ours, name in ((visual, "vis"), (text, "text")):
        size = np.max(np.abs(golden[f"{name}_embed"]))
        np.testing.assert_allclose(ours, golden[f"mixed_{name}_f64"], rtol=0, atol=ROUNDINGS * size)


def test_the_weight_as_a_plain_number(golden):
    for k, lam in enumerate(golden["lam"]):
        visual, text = mixed(golden, float(lam))
        np.testing.assert_allclose(visual, golden["mixed_vis"][k], rtol=0, atol=2e-6)
        np.testing.assert_allclose(text, golden["mixed_text"][k], rtol=0, atol=2e-6)


def test_gradient_reaches_both_partners_with_their_weights(golden):
    """The authors' gradients of the unmixed latents are lam and 1 - lam times one gradient of the mixed row: recover
    that row's gradient from one half, send it back through our mixing, and both halves must come out."""
    lam = float(golden["lam"][golden["grad_lam_index"]])
    assert 0.1 < lam < 0.9
    expected = golden["grad_vis_embed_f64"], golden["grad_text_embed_f64"]
    half = len(expected[0]) // 2
    upstream = tuple(jnp.asarray(gradient[:half] / lam, jnp.float32) for gradient in expected)
    latents = jnp.asarray(golden["vis_embed"]), jnp.asarray(golden["text_embed"])
    _, pull_back = jax.vjp(lambda a, b: perturb.fusemix(a, b, lam=lam), *latents)
    for ours, theirs in zip(pull_back(upstream), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6 * np.max(np.abs(theirs)))


def test_an_odd_batch_is_refused_as_by_the_authors(golden):
    assert golden["odd_batch_raises"] == 1
    with pytest.raises(ValueError, match="even"):
        perturb.fusemix(golden["vis_embed"][:11], golden["text_embed"][:11], lam=0.5)


def test_concentration_along_half_a_cosine(golden):
    """Their cosine schedule of the mixing concentration is `schedules.cosine`, called with epochs as steps. They have
    an exponential one too, which we do not offer."""
    first, last, epochs = (float(golden[f"sched_{name}"]) for name in ("init_alpha", "max_alpha", "max_epoch"))
    ours = jax.jit(schedules.cosine(first, last, epochs))(golden["sched_epoch"])
    np.testing.assert_allclose(ours, golden["sched_cosine"], rtol=0, atol=ROUNDINGS * last)
    constant = jax.jit(schedules.cosine(1.0, 1.0, epochs))(golden["sched_epoch"])
    np.testing.assert_array_equal(constant, golden["sched_cosine_default"])
