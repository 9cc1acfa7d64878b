"""SPEC strings: parsing, and messages for wrong ones."""

import re
import subprocess
import sys

import pytest

from alignment_jax import data
from alignment_jax.core.errors import ConfigError
from alignment_jax.data.spec import options_of, parse_options

WRONG = {
    "flicker:x": ["unknown data source 'flicker'", "did you mean 'flickr'?", "synthetic", "embeddings"],
    "": ["unknown data source ''", "known: synthetic"],
    "data/captions.csv": ["unknown data source 'data/captions.csv'", "'pairs:data/captions.csv' or 'av:"],
    "my.npz": ["unknown data source 'my.npz'", "'embeddings:my.npz' or 'features:my.npz'?"],
    "folder/of.images": ["unknown data source 'folder/of.images'", "known: synthetic"],
    "flickr": ["flickr:DIR"],
    "flickr:": ["'flickr:'", "flickr:DIR"],
    "synthetic:": ["synthetic[:key=value,...]"],
    "synthetic:trian=5": ["unknown option 'trian'", "did you mean 'train'?", "zipf"],
    "synthetic:train": ["'train' has no value", "train=2000"],
    "synthetic:train=": ["'train' has no value"],
    "synthetic:train=5,train=6": ["'train' is given twice"],
    "synthetic:train=five": ["train='five'", "integer"],
    "synthetic:train=1e3": ["train='1e3'", "integer"],
    "synthetic:zipf=steep": ["zipf='steep'", "number"],
    "synthetic:train=0": ["train ", "at least 1"],
    "synthetic:size=4": ["size ", "8", "1024"],
    "synthetic:partial=nan": ["partial ", "nan"],
    "synthetic:zipf=inf": ["zipf ", "inf"],
    "synthetic:seed=-1": ["seed ", "at least 0"],
    "synthetic:partial=0.7,wrong=0.4": ["partial + wrong"],
    "synthetic:noise_in=val": ["noise_in", "train or all"],
    "synthetic:concepts=1,objects=1": ["2400 scenes", "108", "concepts=1"],
    "synthetic:objects=1,zipf=9,train=400": ["zipf"],
    "synthetic:train=1,wrong=1": ["second scene"],
}


@pytest.mark.parametrize("spec", WRONG)
def test_wrong_specs(spec):
    with pytest.raises(ConfigError) as error:
        data.load(spec)
    for part in WRONG[spec]:
        assert part in str(error.value)


def test_unknown_treatment_of_bad_samples():
    with pytest.raises(ConfigError, match=r"on_bad_sample.*error, skip.*'ignore'"):
        data.load("synthetic", on_bad_sample="ignore")


def test_options_have_the_type_of_their_default():
    options = parse_options(" a = 3 , b=2,c=x,", {"a": 1, "b": 1.0, "c": "y", "d": 0}, what="test")
    assert options == {"a": 3, "b": 2.0, "c": "x", "d": 0}
    assert isinstance(options["b"], float)


@pytest.mark.parametrize("name", data.SOURCES)
def test_the_options_of_a_source_are_those_that_its_usage_shows_and_that_it_reads(name, tmp_path):
    options, usage = options_of(name), data.SOURCES[name].usage
    shown = set(re.findall(r"(\w+)=", usage)) - {"key"}
    assert shown <= set(options)
    assert bool(options) == ("=" in usage)
    if options:
        argument = "nonsense=1" if "[:" in usage else f"{tmp_path},nonsense=1"
        with pytest.raises(ConfigError, match=f"'nonsense'.*{', '.join(options)}"):
            data.load(f"{name}:{argument}")


def test_paths_may_hold_colons_and_commas(tmp_path):
    with pytest.raises(ValueError, match=r"a:b,c=d: no such folder"):
        data.load(f"flickr:{tmp_path}/a:b,c=d")


@pytest.mark.slow
def test_import_is_light():
    heavy = ("grain", "PIL", "tokenizers", "sklearn", "flax", "tensorflow", "tensorflow_datasets", "matplotlib")
    code = f"import sys, alignment_jax.data; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
