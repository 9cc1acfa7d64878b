"""The losses against the authors' own numbers, values and gradients.

Compared with the float64 arrays where they exist and with the float32 ones otherwise. Ours are float32, so a number may
be off by a few roundings of the largest term that went into it, which is often larger than the number itself: a loss
is a difference of logits, a gradient a difference of embeddings times scales. Tolerances are 32 roundings (2^-24
each) of that term. A rounded logit of size L moves the softmax by a relative 2^-24 L, so a gradient gets that factor.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alignment_jax as aj
from alignment_jax.core import ConfigError

pytestmark = [pytest.mark.costly, pytest.mark.optimized]

DATA = pathlib.Path(__file__).parent / "data"
# A similarity is a sum of 8 products, in the softmax's numerator and in its sum; 16 for exp, log and the rest.
ROUNDINGS = (2 * 8 + 16) * 2.0**-24
infonce, max_margin, sigmoid, reduce = aj.losses.infonce, aj.losses.max_margin, aj.losses.sigmoid, aj.losses.reduce


def load(name):
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


NAMES = ("clip_infonce", "siglip", "infonce_label_smoothing", "mmts_infonce", "mmts_max_margin", "max_margin_fixed")
FILES = {name: load(name) for name in NAMES}


class Case:
    """The arrays c{i}_... of one case."""

    def __init__(self, name, number):
        self.arrays, self.prefix = FILES[name], f"c{number}_"

    def has(self, name):
        return self.prefix + name in self.arrays

    def __getattr__(self, name):
        if not self.has(name):
            raise AttributeError(name)
        return self.arrays[self.prefix + name]

    def exact(self, name):
        """The float64 array where there is one."""
        return getattr(self, f"{name}_f64" if self.has(f"{name}_f64") else name)

    @property
    def rows(self):
        return self.image.shape[0]

    @property
    def similarity_size(self):
        return np.max(np.abs(self.image @ self.text.T))

    @property
    def embedding_size(self):
        return max(np.max(np.abs(self.image)), np.max(np.abs(self.text)))


def every_case(name):
    numbers = range(int(FILES[name]["n_cases"]))
    return pytest.mark.parametrize("case", [Case(name, k) for k in numbers], ids=[f"c{k}" for k in numbers])


def close(ours, expected, size):
    """`size`: of the largest term, one number for every entry of the first axis."""
    assert ours.shape == expected.shape
    assert ours.dtype == jnp.float32
    for mine, theirs, largest in zip(ours, expected, np.broadcast_to(size, expected.shape[:1]), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=ROUNDINGS, atol=ROUNDINGS * largest)


def over(function, *axes):
    """Value and gradients of all arguments, for a stack of settings at once."""
    return jax.jit(jax.vmap(jax.value_and_grad(function, tuple(range(len(axes)))), in_axes=axes))


clip = over(lambda image, text, scale: reduce(*infonce(image, text, temperature=1.0 / scale)), None, None, 0)


@every_case("clip_infonce")
def test_clip(case):
    loss, (grad_image, grad_text, grad_scale) = clip(case.image, case.text, case.logit_scale)
    logit = np.maximum(case.logit_scale * case.similarity_size, 1.0)
    close(loss, case.exact("loss"), logit)
    close(loss, case.exact("loss_bias_m10"), np.maximum(logit, 10.0))  # one bias for all logits cancels in the softmax
    slope = logit * case.logit_scale * case.embedding_size / case.rows
    close(grad_image, case.exact("grad_image"), slope)
    close(grad_text, case.exact("grad_text"), slope)
    close(grad_scale, case.exact("grad_logit_scale"), logit * case.similarity_size)


siglip = over(lambda image, text, scale, bias: reduce(sigmoid(image, text, scale=scale, bias=bias)), None, None, 0, 0)


@every_case("siglip")
def test_siglip(case):
    scale, bias = case.logit_scale, case.logit_bias
    loss, (grad_image, grad_text, grad_scale, grad_bias) = siglip(case.image, case.text, scale, bias)
    logit = np.maximum(np.abs(scale) * case.similarity_size + np.abs(bias), 1.0)
    # A row is a sum over candidates, and so is the rounding.
    close(loss, case.exact("loss"), logit)
    slope = logit * scale * case.embedding_size / case.rows
    close(grad_image, case.exact("grad_image"), slope)
    close(grad_text, case.exact("grad_text"), slope)
    close(grad_scale, case.exact("grad_logit_scale"), logit * case.similarity_size)
    close(grad_bias, case.exact("grad_logit_bias"), logit)


@every_case("siglip")
def test_siglip_with_negatives_only(case):
    """softplus(z) = softplus(-z) + z turns the positives of our loss into the negatives of a remote rank's block."""
    scale, bias = case.logit_scale, case.logit_bias
    loss, _ = siglip(case.image, case.text, scale, bias)
    own = np.mean(np.sum(case.image.astype(np.float64) * case.text, axis=1))
    logit = np.abs(scale) * case.similarity_size + np.abs(bias)
    close(loss + (scale * own + bias).astype(np.float32), case.loss_negative_only, 2 * logit)


def smoothed_loss(image, text, temperature, smoothing):
    loss_ab, loss_ba = infonce(image, text, temperature=temperature, smoothing=smoothing)
    return reduce(loss_ab, loss_ba), (reduce(loss_ab), reduce(loss_ba))


smoothed = jax.jit(
    jax.vmap(jax.value_and_grad(smoothed_loss, (0, 1, 2), has_aux=True), in_axes=(None, None, None, 0)),
)


@every_case("infonce_label_smoothing")
def test_smoothed_targets(case):
    alphas = FILES["infonce_label_smoothing"]["label_smoothing"]
    (loss, (loss_ab, loss_ba)), (grad_image, grad_text, grad_temperature) = smoothed(
        case.image, case.text, case.temperature, alphas
    )
    scale = 1 / case.temperature
    logit = max(case.similarity_size * scale, 1.0)
    close(loss, case.exact("loss"), logit)
    close(loss_ab, case.exact("loss_i2t"), logit)
    close(loss_ba, case.exact("loss_t2i"), logit)
    slope = logit * scale * case.embedding_size / case.rows
    close(grad_image, case.exact("grad_image"), slope)
    close(grad_text, case.exact("grad_text"), slope)
    close(grad_temperature, case.exact("grad_temperature"), logit * case.similarity_size * scale**2)


mmts = over(lambda image, text, tau: reduce(*infonce(image, text, temperature=tau)), None, None, 0)


@every_case("mmts_infonce")
def test_temperature_of_each_anchor(case):
    """Also case 7, whose temperatures fall below zero: the loss accepts them in an array, the schedule does not."""
    tau = case.tau_f64
    loss, (grad_image, grad_text, _) = mmts(case.image, case.text, tau.astype(np.float32))
    # The temperature itself is rounded to float32 on the way in: one more rounding of every logit.
    scale = 1 / np.min(np.abs(tau), axis=1)
    logit = np.maximum(case.similarity_size * scale, 1.0)
    close(loss, case.exact("loss"), logit)
    slope = logit * scale * case.embedding_size / case.rows
    close(grad_image, case.exact("grad_image"), slope)
    close(grad_text, case.exact("grad_text"), slope)


@pytest.mark.slow
def test_a_temperature_of_exactly_zero():
    """The authors' loss is NaN there. Ours refuses the number, its schedule never gets there, and an array that holds
    a zero makes a loss that is not finite, as theirs: a training step that must be noticed."""
    golden, case = FILES["mmts_infonce"], Case("mmts_infonce", 2)
    assert np.isnan(golden["zero_tau_loss"])
    loss = reduce(*infonce(case.image, case.text, temperature=golden["zero_tau_tau"]))
    assert not np.isfinite(loss)
    with pytest.raises(ValueError, match="temperature"):
        infonce(case.image, case.text, temperature=0.0)
    with pytest.raises(ConfigError, match="min_shift"):
        aj.schedules.mm_ts(alpha=0.2, period=100, min_shift=0.1, max_shift=0.1, min_size=1, max_size=9)


def ranking(image, text, margin):
    # The authors' loss normalises inside, with norms clamped at 1e-8; no golden row is shorter without being zero.
    return reduce(*max_margin(aj.losses.l2_normalize(image), aj.losses.l2_normalize(text), margin=margin))


margins = over(ranking, None, None, 0)


def shortest(case):
    return min(np.min(np.linalg.norm(z, axis=1)) for z in (case.image, case.text))


def check_ranking(case, margin, expected_margin):
    """Both normalisations of the authors: without the diagonal (ours), and with it, which adds constants."""
    loss, (grad_image, grad_text, _) = margins(case.image, case.text, margin)
    n = case.rows
    size = 1 + np.max(np.abs(expected_margin.reshape(len(expected_margin), -1)), axis=1)
    # The derivative of the normalisation divides by the length. Every pair adds its own rounding.
    slope = 1 / shortest(case)
    kept = np.sum(np.maximum(np.broadcast_to(expected_margin.reshape(3, -1), (3, n)), 0), axis=1) / n**2
    close((n - 1) / n * loss + kept.astype(np.float32), case.exact("loss_withdiag"), size)
    if n == 1:
        # Deviation: the mean over no candidate is NaN there and 0 here.
        assert np.isnan(case.loss).all()
        np.testing.assert_array_equal(loss, np.zeros(3))
        np.testing.assert_array_equal(grad_image, np.zeros_like(case.grad_image))
        np.testing.assert_array_equal(grad_text, np.zeros_like(case.grad_text))
        return
    close(loss, case.exact("loss"), size)
    close(grad_image, case.exact("grad_image"), slope)
    close(grad_text, case.exact("grad_text"), slope)
    if case.has("grad_image_withdiag"):
        close((n - 1) / n * grad_image, case.grad_image_withdiag, slope)
        close((n - 1) / n * grad_text, case.grad_text_withdiag, slope)


@pytest.mark.slow
@every_case("mmts_max_margin")
def test_margin_of_each_anchor(case):
    check_ranking(case, case.margin_f64.astype(np.float32), case.margin_f64)


@every_case("max_margin_fixed")
def test_one_margin(case):
    margin = FILES["max_margin_fixed"]["margins"]
    check_ranking(case, margin.astype(np.float32), margin)


@pytest.mark.slow
def test_a_zero_embedding_is_similar_to_nothing():
    golden = FILES["max_margin_fixed"]
    image, text = golden["zero_image"], golden["zero_text"]
    loss, gradients = jax.value_and_grad(ranking, (0, 1))(image, text, 0.2)
    np.testing.assert_allclose(loss, golden["zero_loss"], rtol=ROUNDINGS)
    # Deviation: theirs is of the order of 1e8 in that row, ours lets nothing through.
    np.testing.assert_array_equal(gradients[0][1], np.zeros(image.shape[1]))
    assert np.isfinite(gradients).all()
    assert np.abs(gradients).max() < 10
