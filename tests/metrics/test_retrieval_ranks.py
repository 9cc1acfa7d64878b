"""Ranks and recall against the plain definition, with ties, duplicates, uneven groups and ragged tiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from alignment_jax import metrics

pytestmark = pytest.mark.costly


def ranks_by_definition(s, owner, ids_a=None, ids_b=None):
    """Counts straight from the definition, on a whole similarity matrix; the first row of an id represents its item."""
    n, m = s.shape
    ids_a, ids_b = (np.arange(k) if ids is None else ids for k, ids in ((n, ids_a), (m, ids_b)))
    own = np.zeros((n, m), bool)
    for i, j in zip(owner, range(m), strict=True):
        own |= (ids_a[:, None] == ids_a[i]) & (ids_b == ids_b[j])
    first_a, first_b = (np.isin(np.arange(len(x)), np.unique(x, return_index=True)[1]) for x in (ids_a, ids_b))

    def ranks(s, own, query, counts):
        rank = np.full(len(s), -1)
        for i in np.flatnonzero(query & own.any(axis=1)):
            rank[i] = np.sum((s[i] >= s[i][own[i] & counts].max()) & ~own[i] & counts)
        return rank

    return ranks(s, own, first_a, first_b), ranks(s.T, own.T, first_b, first_a)


def integer_case(seed, n, m, d, high):
    """Small integers: every similarity is exact in float32, and ties abound."""
    rng = np.random.default_rng(seed)
    za, zb = rng.integers(-high, high + 1, size=(n, d)), rng.integers(-high, high + 1, size=(m, d))
    return za.astype(np.float32), zb.astype(np.float32), rng.integers(0, n, size=m)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(1, 1), (1, 7), (5, 3), (12, 60), (70, 65), (64, 128)]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([0, 1, 3]),
)
def test_ranks_are_the_definition_with_every_kind_of_tie(seed, shape, d, high):
    za, zb, owner = integer_case(seed, *shape, d, high)
    want_ab, want_ba = ranks_by_definition(za @ zb.T, owner)
    rank_ab, rank_ba = metrics.retrieval_ranks(za, zb, owner, tile=64)
    np.testing.assert_array_equal(rank_ab, want_ab)
    np.testing.assert_array_equal(rank_ba, want_ba)
    assert rank_ab.dtype == rank_ba.dtype == jnp.int32


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([(1, 7), (12, 60), (70, 65), (64, 128)]), st.sampled_from([1, 20, 200]))
def test_rows_with_equal_ids_are_one_item(seed, shape, kinds):
    """Against the definition; traced ids, and the recall of the rows without their repetitions, are the same."""
    za, zb, owner = integer_case(seed, *shape, 3, 3)
    rng = np.random.default_rng(seed)
    ids_a, ids_b = (rng.integers(0, kinds, size=k).astype(np.int32) for k in shape)
    want = ranks_by_definition(za @ zb.T, owner, ids_a, ids_b)
    found = metrics.retrieval_ranks(za, zb, owner, ids_a=ids_a, ids_b=ids_b, tile=64)
    for got, expected in zip(found, want, strict=True):
        np.testing.assert_array_equal(got, expected)
    items = metrics.distinct_items(owner, n_a=len(za), ids_a=ids_a, ids_b=ids_b)
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(found[1]) >= 0), items.rows_b)
    s = za[items.rows_a] @ zb[items.rows_b].T
    own = np.zeros(s.shape, bool)
    own[items.pair_a, items.pair_b] = True
    for got, q, mine, rows in ((found[0], s, own, items.rows_a), (found[1], s.T, own.T, items.rows_b)):
        best = np.where(mine, q, -np.inf).max(axis=1, keepdims=True)
        expected = np.where(mine.any(axis=1), np.sum(~mine & (q >= best), axis=1), -1)
        np.testing.assert_array_equal(np.asarray(got)[rows], expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "m", "shared", "tile"),
    [(300, 1500, False, 64), (1000, 130, True, 64), (65, 2000, True, 64), (1300, 2100, True, 256)],
)
def test_devices_that_share_the_rows_find_the_ranks_of_one(n, m, shared, tile):
    """Rounded similarities, ties, duplicates, blocks of unequal content and devices without any row."""
    rng = np.random.default_rng(n)
    za = rng.integers(-1, 2, size=(n, 5)) + 0.01 * rng.normal(size=(n, 5)) * rng.integers(0, 2, size=(n, 1))
    owner = rng.integers(0, n, size=m)
    zb = za[owner] + rng.integers(-1, 2, size=(m, 5))
    za, zb = za.astype(np.float32), zb.astype(np.float32)
    ids = {"ids_a": rng.integers(0, n // 2, size=n), "ids_b": rng.integers(0, m // 2, size=m)} if shared else {}
    want = metrics.retrieval_ranks(za, zb, owner, tile=tile, **ids)

    def ranks(za, zb):
        return metrics.retrieval_ranks(za, zb, owner, tile=tile, devices=jax.devices(), **ids)

    for found in (ranks(za, zb), jax.jit(ranks)(za, zb)):
        for got, expected in zip(found, want, strict=True):
            np.testing.assert_array_equal(got, expected)
            assert len(got.sharding.device_set) == len(jax.devices()) == 8
    with pytest.raises(ValueError, match=r"\bzb\b.*row 3"):
        ranks(za, np.where(np.arange(m)[:, None] == 3, np.nan, zb))


@pytest.mark.slow
def test_equal_content_is_a_right_answer():
    """Vectors stored once a caption, and captions that several images share, score as if stored once."""
    rng = np.random.default_rng(0)
    image, ids = rng.normal(size=(20, 8)).astype(np.float32), np.repeat(np.arange(20), 3)
    text = image[ids] + 0.3 * rng.normal(size=(60, 8)).astype(np.float32)
    once = metrics.retrieval_recall(image, text, ids, ks=(1, 5))
    assert 0 < once["b2a_R@1"] < 100
    assert metrics.retrieval_recall(image[ids], text, np.arange(60), ids_a=ids, ks=(1, 5)) == once
    assert metrics.retrieval_recall(image[ids], text, np.arange(60), ks=(1,))["b2a_R@1"] == 0.0
    kinds = np.repeat(np.arange(4), 5)
    z = np.eye(4, 8, dtype=np.float32)[kinds]
    near = z + 0.1 * image
    shared = jax.jit(lambda i: metrics.retrieval_recall(near, z, np.arange(20), ids_b=i, ks=(1,)))(kinds)
    assert shared["rsum"] == 200.0
    assert metrics.retrieval_recall(near, z, np.arange(20), ks=(1,))["a2b_R@1"] == 0.0
    with pytest.raises(ValueError, match=r"ids_b.*60"):
        metrics.retrieval_recall(image, text, ids, ids_b=np.arange(59))


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("tile", [64, 192, 1024])
def test_real_valued_embeddings_over_many_tiles(tile, ordered):
    rng = np.random.default_rng(4)
    za = rng.normal(size=(300, 24)).astype(np.float32)
    owner = np.repeat(np.arange(300), 5) if ordered else rng.permutation(np.repeat(np.arange(300), 5))
    zb = (za[owner] + 2.0 * rng.normal(size=(1500, 24))).astype(np.float32)
    want_ab, want_ba = ranks_by_definition(za.astype(np.float64) @ zb.astype(np.float64).T, owner)
    rank_ab, rank_ba = metrics.retrieval_ranks(za, zb, owner, tile=tile)
    np.testing.assert_array_equal(rank_ab, want_ab)
    np.testing.assert_array_equal(rank_ba, want_ba)
    assert len(np.unique(want_ab)) > 20  # neither trivial nor chance


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize("width", [3, 64, 385])
def test_duplicates_tie_exactly_wherever_they_stand(width):
    """Real values round; a copy of the right answer in another tile must still be a tie, not a coin toss."""
    rng = np.random.default_rng(width)
    n = 200
    za = rng.normal(size=(n, width)).astype(np.float32)
    za[n // 2 :] = za[: n // 2]
    zb = za.copy()
    zb[::7] = -0.0 * zb[::7] + zb[::7]  # the same numbers, computed
    rank_ab, rank_ba = metrics.retrieval_ranks(za, zb, np.arange(n), tile=64)
    assert np.all(np.asarray(rank_ab) >= 1)
    assert np.all(np.asarray(rank_ba) >= 1)
    if width > 3:  # in more dimensions a vector is nearest to itself and to its copy only
        assert np.all(np.asarray(rank_ab) == 1)
        assert np.all(np.asarray(rank_ba) == 1)


@pytest.mark.slow
@pytest.mark.optimized
def test_zero_and_minus_zero_are_the_same_number():
    za = np.array([[1.0, 1.0], [1.0, 1.0]], np.float32)
    zb = np.array([[0.0, 0.3], [-0.0, 0.3]], np.float32)
    rank_ab, _ = metrics.retrieval_ranks(za, zb, [0, 1])
    assert rank_ab.tolist() == [1, 1]


def test_a_collapsed_model_scores_zero():
    z = np.full((50, 16), 0.25, np.float32)
    recall = metrics.retrieval_recall(z, z, np.arange(50), ks=(1, 5, 49))
    assert set(recall.values()) == {0.0}


def test_own_items_do_not_push_each_other_down():
    za = np.eye(3, dtype=np.float32)
    zb = np.repeat(za, 4, axis=0)
    rank_ab, rank_ba = metrics.retrieval_ranks(za, zb, np.repeat(np.arange(3), 4))
    assert rank_ab.tolist() == [0, 0, 0]
    assert rank_ba.tolist() == [0] * 12


def test_an_item_without_partner_is_no_query_but_a_candidate():
    za = np.array([[1.0, 0.0], [2.0, 0.0]])
    zb = np.array([[1.0, 0.0]])
    rank_ab, rank_ba = metrics.retrieval_ranks(za, zb, np.array([0]))
    assert rank_ab.tolist() == [0, -1]
    assert rank_ba.tolist() == [1]
    recall = metrics.retrieval_recall(za, zb, np.array([0]), ks=(1,))
    assert recall == {"a2b_R@1": 100.0, "b2a_R@1": 0.0, "rsum": 100.0}


def test_recall_does_not_depend_on_the_order_of_items():
    rng = np.random.default_rng(1)
    za, zb, owner = integer_case(2, 40, 90, 3, 2)
    want = metrics.retrieval_recall(za, zb, owner)
    rows, columns = rng.permutation(40), rng.permutation(90)
    place = np.argsort(rows)
    assert metrics.retrieval_recall(za[rows], zb[columns], place[owner[columns]]) == want


def test_recall_has_the_documented_keys_and_is_json():
    za, zb, owner = integer_case(3, 40, 90, 3, 2)
    recall = metrics.retrieval_recall(za, zb, owner, ks=(1, 5))
    assert list(recall) == ["a2b_R@1", "a2b_R@5", "b2a_R@1", "b2a_R@5", "rsum"]
    assert all(type(value) is float for value in recall.values())
    assert recall["rsum"] == pytest.approx(sum(value for key, value in recall.items() if key != "rsum"))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, jnp.bfloat16])
def test_other_precisions_are_ranked_in_float32(dtype):
    za, zb, owner = integer_case(5, 40, 90, 3, 3)
    want = metrics.retrieval_ranks(za, zb, owner)
    got = metrics.retrieval_ranks(za.astype(dtype), zb.astype(dtype), owner)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.slow
def test_under_jit_and_vmap_the_numbers_are_the_same():
    za, zb, owner = integer_case(6, 40, 90, 3, 2)
    want = metrics.retrieval_recall(za, zb, owner)
    jitted = jax.jit(metrics.retrieval_recall)(za, zb, owner)
    stacked = jax.vmap(metrics.retrieval_recall)(np.stack([za, za]), np.stack([zb, zb]), np.stack([owner, owner]))
    for key, value in want.items():
        assert float(jitted[key]) == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(stacked[key], value, rtol=1e-6)


def test_under_jit_a_nan_counts_against_the_query():
    za, zb = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    zb[0] = np.nan
    rank_ab, rank_ba = jax.jit(metrics.retrieval_ranks)(za, zb, np.arange(3))
    assert rank_ab.tolist() == [2, 1, 1]
    assert rank_ba.tolist() == [2, 0, 0]


@pytest.mark.optimized
@pytest.mark.slow
def test_memory_is_linear_in_the_number_of_items():
    """Temporaries of the compiled program for 100,000 x 500,000 pairs; the similarity matrix would be 200 GB."""
    from alignment_jax.metrics._row_shards import AXIS, RowShards, row_mesh
    from alignment_jax.metrics.ranks import _ranks, _sharded_ranks

    n, m, d = 100_000, 500_000, 64
    shapes = [jax.ShapeDtypeStruct(s, t) for s, t in (((n, d), "float32"), ((m, d), "float32"), ((m,), "int32"))]
    ids = tuple(jax.ShapeDtypeStruct((k,), "int32") for k in (n, m))
    for known, numbers in ((None, 0), (ids, n + m)):
        memory = _ranks.lower(*shapes, known, RowShards(1, 1024)).compile().memory_analysis()
        inputs = 4 * (n * d + m * d + m + numbers)
        assert memory.temp_size_in_bytes < 2 * inputs + 64 * 2**20
    n, m, d = 8 * 12 * 1024, 8 * 60 * 1024, 1024
    shards, mesh = RowShards(8, 1024), row_mesh(jax.devices())
    blocks = [jax.ShapeDtypeStruct((k, d), "float32", sharding=NamedSharding(mesh, P(AXIS))) for k in (n, m)]
    owner = jax.ShapeDtypeStruct((m,), "int32")
    lowered = _sharded_ranks.lower(*blocks, owner, None, sizes=(n, m), shards=shards, mesh=mesh)
    memory, own = lowered.compile().memory_analysis(), 4 * (n + m) * d / 8
    assert memory.argument_size_in_bytes == own + 4 * m
    assert memory.temp_size_in_bytes < 3 * own  # two blocks of b, on their way, and vectors of all rows


def test_recall_at_takes_any_subset_of_queries():
    assert metrics.recall_at(np.array([0, 1, 4, 9, -1]), ks=(1, 5, 10)) == {"R@1": 25.0, "R@5": 75.0, "R@10": 100.0}
    assert np.isnan(metrics.recall_at(np.array([-1, -1]), ks=(1,))["R@1"])
    assert float(jax.jit(lambda r: metrics.recall_at(r, ks=(1,)))(jnp.array([0, 3, -1]))["R@1"]) == 50.0


good = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.retrieval_recall(good, np.array([[1, np.nan, 1]] * 2), [0, 1]), r"\bzb\b.*row 0"),
        (lambda: metrics.retrieval_recall(np.full((2, 3), np.inf), good, [0, 1]), r"\bza\b.*row 0"),
        (lambda: metrics.retrieval_recall(good, np.ones((2, 4)), [0, 1]), "za and zb.*3 and 4"),
        (lambda: metrics.retrieval_recall(good, good, [0, 2]), r"b_to_a\[1\].*\b2\b"),
        (lambda: metrics.retrieval_recall(good, good, [0, 2**32]), r"b_to_a\[1\].*4294967296"),
        (lambda: metrics.retrieval_recall(good, good, [0, -1]), r"b_to_a\[1\].*-1"),
        (lambda: metrics.retrieval_recall(good, good, [0]), "b_to_a"),
        (lambda: metrics.retrieval_recall(good, good, [0.0, 1.0]), "b_to_a"),
        (lambda: metrics.retrieval_recall(good, np.zeros((0, 3)), []), r"\bzb\b.*\[n, d\]"),
        (lambda: metrics.retrieval_recall(good[0], good, [0, 1]), r"\bza\b.*\[n, d\]"),
        (lambda: metrics.retrieval_recall(good, good, [0, 1], ks=()), r"\bks\b"),
        (lambda: metrics.retrieval_recall(good, good, [0, 1], ks=(0, 1)), r"\bks\b"),
        (lambda: metrics.retrieval_recall(good, good, [0, 1], ks=(1, 1)), r"\bks\b"),
        (lambda: metrics.recall_at(good), r"\branks\b.*\[n\]"),
        (lambda: metrics.top_k(good, good, 3), r"\bk\b.*\[1, 2\]"),
    ],
)
def test_errors_name_the_argument_and_the_row(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("shape", "k"), [((5, 3), 3), ((70, 200), 10), ((130, 64), 64)])
@pytest.mark.parametrize("high", [1, 50])
def test_top_k_is_a_stable_descending_sort(shape, k, high):
    za, zb, _ = integer_case(7, *shape, 4, high)
    s = za @ zb.T
    want = np.argsort(-s, axis=1, kind="stable")[:, :k]
    similarity, index = metrics.top_k(za, zb, k, tile=64)
    np.testing.assert_array_equal(index, want)
    np.testing.assert_array_equal(similarity, np.take_along_axis(s, want, axis=1))


def test_top_k_never_answers_with_padding():
    similarity, index = metrics.top_k(-np.ones((3, 2)), np.ones((5, 2)), 5)
    assert index.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert np.all(np.asarray(similarity) == -2)


@pytest.mark.slow
@pytest.mark.optimized
def test_row_classes_are_equal_exactly_where_rows_are():
    from alignment_jax.metrics._equal_rows import number_distinct, row_hashes

    def row_classes(z):
        return np.asarray(number_distinct(*row_hashes(z, 64)))

    rng = np.random.default_rng(8)
    z = rng.integers(-1, 2, size=(3000, 4)).astype(np.float32)
    classes = row_classes(z)
    _, want = np.unique(z, axis=0, return_inverse=True)
    assert len(np.unique(classes)) == want.max() + 1 == 81
    assert len(np.unique(np.stack([classes, want]), axis=1).T) == 81
    # Signs and the order of columns are part of a row; a hash that only adds bits up would miss both.
    assert len(set(row_classes(np.float32([[1, -2], [-1, 2], [2, -1], [-2, 1]])).tolist())) == 4


@pytest.mark.slow
def test_duplicates_tie_even_where_a_matmul_rounds_by_position(monkeypatch):
    """Some kernels sum the edge of a tile in another order; here every entry gets a different error."""
    from alignment_jax.metrics import _rank_blocks, ranks
    from alignment_jax.metrics._row_shards import RowShards

    def unsteady(za, zb):
        s = za @ zb.T
        noise = np.random.default_rng(0).uniform(-1e-6, 1e-6, size=s.shape).astype(np.float32)
        return s + noise

    monkeypatch.setattr(_rank_blocks, "similarity_tile", unsteady)
    rng = np.random.default_rng(9)
    za = rng.normal(size=(100, 32)).astype(np.float32)
    za = np.concatenate([za, za, za])
    rank_ab, rank_ba = ranks._ranks.__wrapped__(
        jnp.asarray(za), jnp.asarray(za), jnp.arange(300), None, RowShards(1, 64)
    )
    assert set(rank_ab.tolist()) == set(rank_ba.tolist()) == {2}
    alone_ab, alone_ba = ranks._ranks.__wrapped__(
        jnp.asarray(za[:100]), jnp.asarray(za[:100]), jnp.arange(100), None, RowShards(1, 64)
    )
    assert set(alone_ab.tolist()) == set(alone_ba.tolist()) == {0}


@pytest.mark.slow
@pytest.mark.parametrize("check", [True, False])
def test_every_device_ranks_its_own_items(check):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("i",))
    za, zb, owner = integer_case(8, 6, 6, 4, 3)

    def local(za, zb, owner):
        # The gallery of the second search is the same on all devices, as for queries of a shard.
        return (*metrics.retrieval_ranks(za, zb, owner), metrics.top_k(za, zb, 3)[1], metrics.top_k(za, gallery, 3)[1])

    gallery = jnp.asarray(zb)
    spec = jax.sharding.PartitionSpec("i")
    run = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=check))
    found = run(np.concatenate([za, za[::-1]]), np.concatenate([zb, zb]), np.concatenate([owner, owner]))
    for k, a in enumerate((za, za[::-1])):
        for x, y in zip(found, local(a, zb, owner), strict=True):
            np.testing.assert_array_equal(x[k * len(y) : (k + 1) * len(y)], y)
