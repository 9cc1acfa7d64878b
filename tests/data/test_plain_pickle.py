"""Pickles read as data: NumPy arrays are returned, other objects are refused without being executed."""

import collections
import os
import pickle
import struct

import numpy as np
import pytest

from alignment_jax.core.errors import DataError
from alignment_jax.data.plain_pickle import read_plain_pickle

RNG = np.random.default_rng(0)
ARRAYS = {
    "float64": RNG.normal(size=(3, 4)),
    "float32, three axes": RNG.normal(size=(2, 3, 4)).astype(np.float32),
    "float16": RNG.normal(size=5).astype(np.float16),
    "big endian": np.arange(6).astype(">i4"),
    "Fortran order": np.asfortranarray(RNG.normal(size=(3, 5))),
    "part of another": np.arange(20.0)[::3],
    "bool": np.array([True, False]),
    "text": np.array(["one", "zwölf"]),
    "bytes": np.array([b"a", b"bcd"]),
    "complex": np.array([1 + 2j]),
    "empty": np.zeros((0, 3)),
    "zero axes": np.array(2.5),
}


def written(tmp_path, content):
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_out_as_they_went_in(name, protocol, tmp_path):
    array = ARRAYS[name]
    found = read_plain_pickle(written(tmp_path, pickle.dumps(array, protocol)))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    assert not found.flags.writeable


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_dicts_and_lists_of_arrays(protocol, tmp_path):
    shared = np.arange(3)
    value = {
        "RGB": np.eye(2),
        "ids": ["a", "b", 3],
        "pair": (1, 2.5, None, True),
        "n": 10**30,
        "again": [shared, shared],
    }
    found = read_plain_pickle(written(tmp_path, pickle.dumps(value, protocol)))
    np.testing.assert_array_equal(found["RGB"], np.eye(2))
    assert (found["ids"], found["pair"], found["n"]) == (value["ids"], value["pair"], 10**30)
    np.testing.assert_array_equal(found["again"], [shared, shared])


def test_scalars_of_numpy(tmp_path):
    found = read_plain_pickle(written(tmp_path, pickle.dumps([np.float32(1.5), np.int64(3)])))
    assert found == [1.5, 3]


def test_numbers_named_as_before_numpy_2(tmp_path):
    content = pickle.dumps(np.eye(2), 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(read_plain_pickle(written(tmp_path, content)), np.eye(2))


class Runs:
    """Writes a file wherever it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Plain:
    pass


TRIGGER = "touched"
UNFILLED = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
ATTACKS = {
    "os.system": lambda: pickle.dumps(Runs(os.system, f"touch {TRIGGER}")),
    "eval": lambda: pickle.dumps(Runs(eval, f"open({TRIGGER!r}, 'w')")),
    "eval, protocol 0": lambda: pickle.dumps(Runs(eval, f"open({TRIGGER!r}, 'w')"), 0),
    "nested in a list": lambda: pickle.dumps([np.eye(2), Runs(open, TRIGGER, "w")]),
    "nested in a dict": lambda: pickle.dumps({"x": {"y": Runs(open, TRIGGER, "w")}}),
    "getattr": lambda: pickle.dumps(Runs(getattr, "", "join")),
    "a class": lambda: pickle.dumps(Plain()),
    "a class, protocol 0": lambda: pickle.dumps(Plain(), 0),
    "a function": lambda: pickle.dumps(len),
    "an ordered dict": lambda: pickle.dumps(collections.OrderedDict(a=1)),
    "a set": lambda: pickle.dumps({1, 2}),
    "objects in an array": lambda: pickle.dumps(np.array([Runs(os.system, f"touch {TRIGGER}"), 1], object)),
    "texts as objects": lambda: pickle.dumps(np.array(["a", "b"], object)),
    "records": lambda: pickle.dumps(np.zeros(2, [("a", "f4"), ("b", "O")])),
    "plain records": lambda: pickle.dumps(np.zeros(2, [("a", "f4")])),
    "dates": lambda: pickle.dumps(np.array(["2020-01-01"], "M8[D]")),
    "masked array": lambda: pickle.dumps(np.ma.array([1, 2], mask=[True, False])),
    "a list in itself": lambda: pickle.dumps(cyclic()),
    "numpy's own loader": lambda: b"cnumpy\nload\n(S'x.npy'\ntR.",
    "numpy.f2py": lambda: b"cnumpy.testing._private.utils\nrunstring\n(S'import os'\n}tR.",
    "dotted name": lambda: b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.",
    "a name with a space": lambda: b"cnumpy core\nx\n.",
    "a bare function": lambda: b"cnumpy\nndarray\n.",
    "a bare type": lambda: b"cnumpy\ndtype\n(S'f8'\ntR.",
    "a type in a tuple": lambda: b"(cnumpy\ndtype\n(S'f8'\ntRtp1\n.",
    "a function in a list": lambda: b"(lcnumpy\nndarray\na.",
    "an array that is never filled": lambda: UNFILLED + b".",
    "ndarray called directly": lambda: b"cnumpy\nndarray\n((I1000000000000\ntS'f8'\ntR.",
    "dtype of an object": lambda: b"cnumpy\ndtype\n(S'O8'\ntR.",
    "dtype of a list": lambda: b"cnumpy\ndtype\n((lp0\nS'f8'\natR.",
    "a state for a dict": lambda: b"}(S'a'\nI1\nub.",
    "an unknown encoding": lambda: b"c_codecs\nencode\n(Vabc\nVzlib\ntR.",
    "persistent id": lambda: b"Psecret\n.",
    "extension registry": lambda: b"\x80\x02\x82\x01.",
    "INST": lambda: b"(S'touch touched'\nios\nsystem\n.",
    "OBJ": lambda: b"(cos\nsystem\nS'touch touched'\no.",
    "NEWOBJ": lambda: b"\x80\x02cnumpy\nndarray\n)\x81.",
    "POP": lambda: b"I1\nI2\n0.",
    "DUP": lambda: b"I12.",
    "out-of-band buffer": lambda: b"\x80\x05\x97.",
    "left over": lambda: b"I1\nI2\n.",
    "a memo of nothing": lambda: b"h\x05.",
    "a memo of a mark": lambda: b"(q\x00h\x00.",
    "a memo of an open list": lambda: b"]q\x00h\x00a.",
    "a dict in itself": lambda: b"}q\x00S'a'\nh\x00s.",
    "an array in its own memo": lambda: b"]" + UNFILLED + b"q\x01h\x01a.",
    "append to a tuple": lambda: b"(tI1\na.",
    "set on a list": lambda: b"]S'a'\nI1\ns.",
    "a key that is an array": lambda: pickle.dumps([np.eye(2)])[:-2] + b"}h\x00I1\nse.",
    "no end": lambda: pickle.dumps(np.eye(2))[:-1],
    "nothing": lambda: b"",
    "only a protocol": lambda: b"\x80\x04",
    "text": lambda: b"image,caption\n",
    "cut": lambda: pickle.dumps(np.eye(20))[:200],
    "gigabytes announced": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "gigabytes of text": lambda: b"\x80\x02X" + struct.pack("<I", 0xFFFFFFFF) + b"x.",
    "digits without end": lambda: b"L" + b"9" * 100_000 + b"L\n.",
}  # fmt: skip


def cyclic():
    items = [1]
    items.append(items)
    return items


@pytest.mark.parametrize("attack", ATTACKS)
def test_everything_else_is_refused_and_nothing_runs(attack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, ATTACKS[attack]())
    with pytest.raises(DataError, match=r"file\.pkl") as error:
        read_plain_pickle(path)
    assert "\n" not in str(error.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.pkl"]


def test_the_message_names_the_refused_function(tmp_path):
    path = written(tmp_path, pickle.dumps(Runs(os.system, "true")))
    with pytest.raises(DataError, match=rf"{os.system.__module__}\.system"):
        read_plain_pickle(path)


@pytest.mark.parametrize("shape", [(2, 3), (-4, -1), (1 << 62, 1 << 62), (0,)])
def test_a_shape_must_fit_the_bytes(shape, tmp_path):
    header = b"\x80\x05cnumpy._core.numeric\n_frombuffer\n(\x96" + struct.pack("<Q", 32) + b"\0" * 32
    sizes = b"".join(b"I%d\n" % size for size in shape)
    path = written(tmp_path, header + b"cnumpy\ndtype\n(S'f8'\ntR(" + sizes + b"tS'C'\ntR.")
    with pytest.raises(DataError, match=r"file\.pkl"):
        read_plain_pickle(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.pkl: "):
        read_plain_pickle(tmp_path / "none.pkl")


@pytest.mark.slow
def test_random_changes_never_raise_anything_else(tmp_path):
    """A thousand damaged files: a value or a DataError, nothing else, and every name in them is NumPy's."""
    good = pickle.dumps({"a": np.eye(3), "b": [np.float32(1), "text"]}, 4)
    rng, refused = np.random.default_rng(1), 0
    for _ in range(1000):
        content = bytearray(good)
        for position in rng.integers(0, len(content), rng.integers(1, 4)):
            content[position] = rng.integers(0, 256)
        try:
            read_plain_pickle(written(tmp_path, bytes(content)))
        except DataError:
            refused += 1
    assert refused > 300
