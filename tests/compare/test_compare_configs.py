"""`alignment-jax compare` with a configuration file that has no methods."""

import pytest

from alignment_jax.cli import compare as command
from alignment_jax.cli.main import main

FILES = {
    "ignores its argument": "def get_config(arg=None): return config.default()",
    "takes no argument": "def get_config(): return config.default()",
    "reads it strictly": "def get_config(arg=None):\n  config.parse_arg(arg)\n  return config.default()",
}


@pytest.fixture(params=FILES)
def file(request, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(f"from alignment_jax import config\n\n\n{FILES[request.param]}\n", encoding="utf-8")
    return path


@pytest.fixture
def configs(monkeypatch):
    """Runs the command up to the comparison itself and gives its configurations by method."""

    def of(path, methods, *more):
        found = {}

        def record(folder, wanted, **_):
            found.update({name: wanted.config_of(name) for name in wanted.methods})
            return ""

        monkeypatch.setattr(command, "compare", record)
        status = main(["compare", f"--config={path}", f"--methods={methods}", "--workdir=never_made", *more])
        return status, found

    return of


def test_every_method_has_its_recipe_however_the_file_treats_its_argument(file, configs):
    status, found = configs(file, "baseline,vals,vals+smoothing,recipe")
    assert status == 0
    assert [one.weighting.signal for one in found.values()] == ["fixed", "variance", "variance", "fixed"]
    assert found["vals+smoothing"].smoothing.start == 0.1


def test_overrides_come_after_the_recipe(file, configs):
    more = (
        "--config.smoothing.start=0.3",
        "--config.optimizer.learning_rate=0.5",
        "--config.search=('a = log(1,2)',)",
    )
    status, found = configs(file, "baseline,smoothing", *more)
    assert status == 0
    for one in found.values():
        assert (one.smoothing.start, one.optimizer.learning_rate, one.search) == (0.3, 0.5, ("a = log(1,2)",))


def test_an_unknown_method_is_refused_in_one_line(file, configs, capsys):
    assert configs(file, "baseline,valls")[0] == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "unknown method 'valls'" in lines[0]


def test_a_file_with_its_own_methods_keeps_them(repository, configs):
    status, found = configs(f"{repository}/configs/av_digits_bss.py", "vanilla,curriculum,recipe")
    assert status == 0
    assert [one.sampling.name for one in found.values()] == ["shuffle", "curriculum", "shuffle"]


def test_every_method_gets_the_hubness_correction_of_the_base(tmp_path, configs):
    path = tmp_path / "own.py"
    path.write_text(
        "from alignment_jax import config\n\n\ndef get_config(arg=None):\n"
        "  method = config.parse_arg(arg, method='').method\n  c = config.default()\n"
        "  config.apply_methods(c, method)\n  c.eval.hubness = 'none' if method else 'csls'\n  return c\n",
        encoding="utf-8",
    )
    status, found = configs(path, "baseline,vals,recipe")
    assert status == 0
    assert [one.eval.hubness for one in found.values()] == ["csls"] * 3
