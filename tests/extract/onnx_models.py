"""Minimal ONNX models, written as protocol buffers."""

import numpy as np


def _varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _number(field, value):
    return _varint(field << 3) + _varint(value)


def _bytes(field, value):
    value = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _value(name, element, shape):
    dims = b"".join(_bytes(1, _number(1, d) if isinstance(d, int) else _bytes(2, d)) for d in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, element) + _bytes(2, dims)))


def _node(op, inputs, outputs):
    return b"".join(_bytes(1, x) for x in inputs) + b"".join(_bytes(2, x) for x in outputs) + _bytes(4, op)


def _model(nodes, inputs, outputs, tables=()):
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, "tiny")
    for name, array in tables:
        dims = b"".join(_number(1, d) for d in array.shape)
        graph += _bytes(5, dims + _number(2, 1) + _bytes(8, name) + _bytes(9, array.astype("<f4").tobytes()))
    graph += b"".join(_bytes(11, x) for x in inputs) + b"".join(_bytes(12, x) for x in outputs)
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _number(2, 13))


FLOAT, INT64 = 1, 7


def mean_color(size=8):
    """Images [n, 3, size, size] -> a map [n, 3, 1, 1] of the channels' means."""
    return _model(
        [_node("GlobalAveragePool", ["pixel_values"], ["map"])],
        [_value("pixel_values", FLOAT, ["n", 3, size, size])],
        [_value("map", FLOAT, ["n", 3, 1, 1])],
    )


def word_vectors(words, width=4):
    """Token numbers [n, length] -> one vector a word, [n, length, width]; the table is returned too."""
    table = np.random.default_rng(0).normal(size=(words, width)).astype(np.float32)
    model = _model(
        [_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        [_value("input_ids", INT64, ["n", "length"])],
        [_value("last_hidden_state", FLOAT, ["n", "length", width])],
        [("table", table)],
    )
    return model, table
