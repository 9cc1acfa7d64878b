"""The tokenizer: trained on captions, deterministic, robust to odd texts."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_jax import data
from alignment_jax.core.errors import ConfigError, DataError

CORPUS = [f"a {size} {color} {thing} near the water" for size in ("big", "small") for color in ("red", "blue")
          for thing in ("dog", "boat", "house", "ball")]  # fmt: skip


TOKENIZER = data.train_tokenizer(CORPUS, vocab_size=400)


@pytest.fixture
def tokenizer():
    return TOKENIZER


def test_rows_begin_end_and_are_padded(tokenizer):
    ids = tokenizer.encode(["a big red dog", "", "  \n ", CORPUS[0] * 20], 10)
    assert ids.shape == (4, 10)
    assert ids.dtype == np.int32
    assert (ids[:, 0] == tokenizer.bos_id).all()
    assert ids[1].tolist() == ids[2].tolist() == [2, 3, 0, 0, 0, 0, 0, 0, 0, 0]
    assert ids[3, -1] == tokenizer.eos_id  # cut, but ended
    for row in ids:
        length = int(np.flatnonzero(row == tokenizer.eos_id)[0])
        assert (row[length + 1 :] == tokenizer.pad_id).all()
        assert (row[1:length] > 3).all()
    assert ids.max() < tokenizer.vocab_size <= 400


def test_known_texts_come_back(tokenizer):
    assert tokenizer.decode(tokenizer.encode(CORPUS, 32)) == CORPUS
    assert tokenizer.decode(tokenizer.encode(["A BIG\tred   DOG"], 32)) == ["a big red dog"]


def test_frequent_words_are_one_token(tokenizer):
    assert (tokenizer.encode(["a big red dog near the water"], 16)[0] > 3).sum() == 7


@pytest.mark.slow
@settings(max_examples=100)
@given(text=st.text(max_size=40))
def test_any_text_has_ids(text):
    ids = TOKENIZER.encode([text], 400)
    assert ids.min() >= 0
    assert ids.max() < TOKENIZER.vocab_size
    body = ids[0][(ids[0] != 0)][1:-1]
    assert (body > 3).all()  # nothing is unknown, and no text spells a control token


@pytest.mark.parametrize("text", ["🙂🙃 café", "שלום עולם", "日本語の字幕", "naïve Ångström", "a\u200bb"])
def test_scripts_and_emoji_survive(text):
    import unicodedata

    assert TOKENIZER.decode(TOKENIZER.encode([text], 100)) == [unicodedata.normalize("NFKC", text).lower()]


def test_control_tokens_cannot_be_spelt(tokenizer):
    ids = tokenizer.encode(["[PAD] dog [EOS] [BOS]"], 64)[0]
    body = ids[1 : np.flatnonzero(ids)[-1]]
    assert not set(body.tolist()) & {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id}


def test_of_a_million_words_no_more_is_read_than_fits(tokenizer):
    class Watched:
        """The library's tokenizer, and how many characters it was given."""

        def encode_batch(self, texts, **options):
            self.given = max(map(len, texts))
            return inner.encode_batch(texts, **options)

    inner, watched = tokenizer._inner, Watched()
    huge = data.Tokenizer(watched).encode(["dog boat " * 500_000, "x" * 5_000_000], 16)
    assert watched.given < 5_000
    np.testing.assert_array_equal(huge[0], tokenizer.encode(["dog boat " * 50], 16)[0])
    assert data.train_tokenizer([*CORPUS, "word " * 1_000_000, "y" * 5_000_000], vocab_size=300).vocab_size <= 300


@pytest.mark.slow
def test_another_process_trains_the_same_tokenizer_from_another_order(tmp_path):
    corpus = [f"{word} number {i} of {i % 7} things" for i, word in enumerate(CORPUS * 5)]
    (tmp_path / "corpus.json").write_text(json.dumps(corpus))
    code = (
        "import json, sys; from alignment_jax import data\n"
        "corpus = json.load(open(sys.argv[1]))[::-1]\n"
        "data.train_tokenizer(corpus, vocab_size=350).save(sys.argv[2])"
    )
    arguments = [str(tmp_path / "corpus.json"), str(tmp_path / "there.json")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    data.train_tokenizer(corpus, vocab_size=350).save(tmp_path / "here.json")
    assert (tmp_path / "here.json").read_bytes() == (tmp_path / "there.json").read_bytes()


def test_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    loaded = data.Tokenizer.load(tmp_path / "t.json")
    texts = [*CORPUS, "[PAD]", "unseen words", ""]
    np.testing.assert_array_equal(loaded.encode(texts, 24), tokenizer.encode(texts, 24))
    assert loaded.vocab_size == tokenizer.vocab_size


def damaged(path: pathlib.Path, how: str) -> None:
    text = path.read_text()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_text(text[: len(text) // 2])
    elif how == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    elif how == "list":
        path.write_text("[1, 2]")
    elif how == "other program":
        path.write_text(text.replace('"[PAD]": 0', '"[PAD]": 9'))
    else:
        content = json.loads(text)
        content["pre_tokenizer"] = {"type": "Nonsense"}
        path.write_text(json.dumps(content))


@pytest.mark.parametrize("how", ["gone", "cut", "binary", "list", "other program", "nonsense"])
def test_damaged_files_are_named(how, tmp_path):
    path = tmp_path / "t.json"
    TOKENIZER.save(path)
    damaged(path, how)
    with pytest.raises(DataError, match=r"t\.json: ") as error:
        data.Tokenizer.load(path)
    assert "\n" not in str(error.value)


def test_wrong_settings():
    with pytest.raises(ConfigError, match=r"vocab_size.*260"):
        data.train_tokenizer(CORPUS, vocab_size=100)
    with pytest.raises(DataError, match="caption"):
        data.train_tokenizer(["", "  "])
    with pytest.raises(ConfigError, match=r"max_length.*2"):
        TOKENIZER.encode(["x"], 1)
    with pytest.raises(ConfigError, match="'embedding'"):
        data.encode_texts(data.ArrayColumn(np.zeros((2, 2))), TOKENIZER, 8)


def test_encoded_column_keeps_its_order():
    column = data.TextColumn(tuple(CORPUS))
    encoded = data.encode_texts(column, TOKENIZER, 12)
    assert encoded.kind == "text"
    np.testing.assert_array_equal(encoded.read(np.array([3, 0])), TOKENIZER.encode([CORPUS[3], CORPUS[0]], 12))
