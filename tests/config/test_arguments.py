import pytest

from alignment_jax.config import parse_arg, parse_duration
from alignment_jax.core.errors import ConfigError


def test_arguments_take_the_type_of_their_default():
    arg = parse_arg("runlocal,dim=64,rate=0.5,name=vit,flag=false", dim=8, rate=1.0, name="x", flag=True)
    assert (arg.runlocal, arg.dim, arg.rate, arg.name, arg.flag) == (True, 64, 0.5, "vit", False)


def test_no_argument_gives_the_defaults():
    for nothing in (None, ""):
        assert parse_arg(nothing, dim=8).to_dict() == {"runlocal": False, "data": "", "dim": 8}


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("data=synthetic:train=20,wrong=0.5", "synthetic:train=20,wrong=0.5"),
        ("data=synthetic:train=20,wrong=0.5,runlocal", "synthetic:train=20,wrong=0.5"),
        ("runlocal,data=pairs:a,b.csv", "pairs:a,b.csv"),
        ("data=flickr:/x/y", "flickr:/x/y"),
        ("data=epic:/x,y,count=verb,runlocal", "epic:/x,y,count=verb"),
        ("data=tfds:mnist,data_dir=/x,split=train+test,a=image", "tfds:mnist,data_dir=/x,split=train+test,a=image"),
        ("data=coco:/x/a=b,year=2014", "coco:/x/a=b,year=2014"),
    ],
)
def test_a_spec_may_hold_commas(text, data):
    assert parse_arg(text).data == data


def test_an_encoder_name_sets_the_argument_and_other_words_the_column():
    found = parse_arg("data=posts:a.csv,image=photo,text=words,image=vit", image="convnet", text="lstm")
    assert (found.data, found.image, found.text) == ("posts:a.csv,image=photo,text=words", "vit", "lstm")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runloca", "'runloca'.*'runlocal'.*data, dim, runlocal"),
        (
            "data=flickr:photos,dmi=8",
            "'dmi'.*'dim'.*data, dim, runlocal.*--config.data",
        ),
        ("data=synthetic:train=20,wrng=0.5", "'wrng'.*'wrong'.* dim, .*partial"),
        ("data=pairs:x.csv,dim=9,dmi=8", "'dmi'.*'dim'"),
        ("dim=wide", "dim='wide': .*whole number"),
        ("dim=1.5", "expected a whole number"),
        ("dim", "needs a value"),
        ("runlocal=maybe", "expected true or false"),
    ],
)
def test_wrong_arguments_are_named(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_arg(text, dim=8)


@pytest.mark.parametrize(
    ("text", "steps"),
    [("7 steps", 7), ("2 epochs", 20), ("0.25 epochs", 3), ("320 examples", 10), ("50 percent", 50), ("0 steps", 0),
     ("1 examples", 1), ("1e2 steps", 100), ("5%", 5)],
)  # fmt: skip
def test_durations(text, steps):
    assert parse_duration(text).steps(steps_per_epoch=10, batch_size=32, total_steps=100) == steps


@pytest.mark.parametrize("text", ["", "10", "epochs", "-1 steps", "3 fortnights", "1,000 steps"])
def test_malformed_durations_name_the_setting(text):
    with pytest.raises(ConfigError, match=r"train\.duration"):
        parse_duration(text, name="train.duration")


def test_percent_needs_a_whole():
    with pytest.raises(ConfigError, match="percent"):
        parse_duration("5 percent").steps(steps_per_epoch=10, batch_size=32)
