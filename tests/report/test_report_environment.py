"""The environment record repeats a run and gives nothing away."""

import json
import subprocess

from alignment_jax.report import environment


def test_it_is_plain_data_with_the_versions_that_are_installed():
    found = environment([{"kind": "cpu"}], packages=("numpy", "no-such-distribution"))
    assert json.loads(json.dumps(found)) == found
    assert list(found["packages"]) == ["numpy"]
    assert found["devices"] == [{"kind": "cpu"}]
    assert {"time", "command", "python", "platform", "cpus"} <= set(found)


def test_secrets_stay_out(monkeypatch):
    monkeypatch.setenv("SOME_API_TOKEN", "hunter2-in-the-environment")
    argv = [
        "/home/someone/bin/alignment-jax",
        "train",
        "--api_key=hunter2",
        "--config.tracker.token=hunter2",
        "--password",
        "hunter2",
        "--config.seed=3",
        "--tokenizer",
        "bpe",
    ]
    found = environment(argv=argv)
    text = json.dumps(found)
    assert "hunter2" not in text
    assert "someone" not in text
    assert "--config.seed=3" in found["command"]


def test_settings_that_only_sound_secret_stay():
    argv = ["x", "--config.max_tokens=77", "--tokenizer=bpe", "--tokens", "77"]
    assert environment(argv=argv)["command"] == "x --config.max_tokens=77 --tokenizer=bpe --tokens 77"


def test_the_commit_is_that_of_the_package_and_not_of_a_folder_around_it(tmp_path, monkeypatch):
    from alignment_jax.report.environment import _git_state

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    (tmp_path / "own.py").write_text("1")
    assert _git_state(tmp_path / "own.py") == {}
    git("init", "-q")
    git("add", "own.py")
    git("commit", "-q", "-m", "x")
    state = _git_state(tmp_path / "own.py")
    assert len(state["git_commit"]) == 40
    assert state["git_changed"] is False
    (tmp_path / "own.py").write_text("2")
    assert _git_state(tmp_path / "own.py")["git_changed"] is True
    (tmp_path / "installed.py").write_text("not tracked here")
    assert _git_state(tmp_path / "installed.py") == {}
    monkeypatch.setenv("PATH", "")
    assert _git_state(tmp_path / "own.py") == {}
