"""A workdir at a URL: a file system in memory stands for the bucket, interrupted between any two files."""

import itertools
import json
import shutil

import pytest

from alignment_jax.core.errors import RunError, UserError
from alignment_jax.train import mirror as mirrors
from alignment_jax.train.mirror import Mirror

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def bucket():
    """An empty file system in memory."""
    files = fsspec.filesystem("memory")
    for path in files.find("/"):
        files.rm(path)
    return files


def save(folder, step, *, text):
    """What a training leaves when it has saved a step: the one before is deleted, the log has grown."""
    for name in ("state/a", "state/b", "loop/metadata"):
        path = folder / "checkpoints" / "last" / str(step) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} of {step}: {text}")
    for old in (folder / "checkpoints" / "last").iterdir():
        if old.name != str(step):
            shutil.rmtree(old)
    with open(folder / "metrics.jsonl", "a") as log:
        log.write(json.dumps({"step": step}) + "\n")


def read(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_run_comes_back_as_it_was(bucket, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    save(here, 10, text="x")
    (here / "checkpoints/last/20.orbax-checkpoint-tmp").mkdir()
    (here / "checkpoints/last/20.orbax-checkpoint-tmp/half").write_text("half")
    assert Mirror("memory://bucket/run", here).push()
    shutil.rmtree(here / "checkpoints/last/20.orbax-checkpoint-tmp")
    assert Mirror("memory://bucket/run", there).fetch()
    assert read(there) == read(here)


def test_an_empty_url_has_nothing_to_fetch(bucket, tmp_path):
    assert not Mirror("memory://bucket/none", tmp_path / "x").fetch()


def test_only_what_changed_is_sent_and_what_is_gone_is_deleted(bucket, tmp_path, monkeypatch):
    here = tmp_path / "here"
    save(here, 10, text="x")
    (here / "config.json").write_text("{}")
    mirror = Mirror("memory://bucket/run", here)
    mirror.push()
    sent = []
    put = mirror._files.put_file
    monkeypatch.setattr(mirror._files, "put_file", lambda local, remote: (sent.append(remote), put(local, remote)))
    save(here, 20, text="y")
    mirror.push()
    assert not [name for name in sent if "config.json" in name]
    assert not [name for name in bucket.find("/bucket") if "last/10/" in name]
    sent.clear()
    mirror.push()
    assert sent == []


def test_a_push_interrupted_anywhere_leaves_the_state_before_or_after(bucket, tmp_path, monkeypatch):
    """The upload is cut before its k-th write or deletion, for every k; a new machine finds a whole state each time."""
    seen = set()
    for cut in itertools.count():
        for path in bucket.find("/"):
            bucket.rm(path)
        here = tmp_path / f"here{cut}"
        save(here, 10, text="x")
        mirror = Mirror("memory://bucket/run", here)
        mirror.push()
        save(here, 20, text="y")
        left = itertools.count(cut, -1)

        def cutting(call, left=left):
            def wrapped(*arguments, **options):
                if next(left) <= 0:
                    raise KeyboardInterrupt
                return call(*arguments, **options)

            return wrapped

        finished = True
        with monkeypatch.context() as patch:
            for name in ("put_file", "pipe_file", "rm_file"):
                patch.setattr(mirror._files, name, cutting(getattr(mirror._files, name)))
            try:
                mirror.push()
            except KeyboardInterrupt:
                finished = False
        there = tmp_path / f"there{cut}"
        assert Mirror("memory://bucket/run", there).fetch()
        steps = sorted(path.name for path in (there / "checkpoints/last").iterdir())
        assert len(steps) == 1
        step = steps[0]
        seen.add(step)
        text = "x" if step == "10" else "y"
        assert read(there / "checkpoints/last" / step) == {
            name: f"{name} of {step}: {text}" for name in ("state/a", "state/b", "loop/metadata")
        }
        if finished:
            break
    assert seen == {"10", "20"}
    assert cut > 5


def test_a_machine_that_saved_but_could_not_upload_keeps_what_it_has(bucket, tmp_path):
    here = tmp_path / "here"
    save(here, 10, text="x")
    mirror = Mirror("memory://bucket/run", here)
    mirror.push()
    save(here, 20, text="y")
    assert Mirror("memory://bucket/run", here).fetch()
    assert (here / "checkpoints/last/20").is_dir()


@pytest.mark.parametrize("damage", ["gone", "short", "list", "escape"])
def test_a_damaged_copy_is_named(damage, bucket, tmp_path):
    here = tmp_path / "here"
    save(here, 10, text="x")
    Mirror("memory://bucket/run", here).push()
    name = "/bucket/run/checkpoints/last/10/state/a"
    if damage == "gone":
        bucket.rm(name)
    elif damage == "short":
        bucket.pipe_file(name, b"s")
    elif damage == "list":
        bucket.pipe_file("/bucket/run/MIRROR.json", b"{")
    else:
        bucket.pipe_file("/bucket/run/MIRROR.json", json.dumps({"files": {"../../evil": 1}}).encode())
    with pytest.raises(RunError, match="MIRROR"):
        Mirror("memory://bucket/run", tmp_path / "there").fetch()
    assert not (tmp_path / "there").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_an_unknown_file_system_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="nosuch"):
        Mirror("nosuch://bucket/run", tmp_path)


@pytest.mark.slow
def test_training_goes_on_on_a_new_machine(bucket, tmp_path, monkeypatch, embeddings, repository):
    """Train, lose the machine, train on: the same results as without the loss; evaluate reads the URL too."""
    from alignment_jax.cli.main import main

    monkeypatch.setattr(mirrors, "INTERVAL_SECONDS", 0.05)
    config = f"{repository}/configs/flickr8k_frozen.py:runlocal,method=baseline,data=embeddings:{embeddings}"

    def train(url, *more):
        monkeypatch.setenv("HOME", str(tmp_path / "machine"))
        flags = ["--config.log.tensorboard=False", "--config.train.devices=1", "--config.report.gallery=0", "--quiet"]
        return main(["train", "--config", config, "--workdir", url, *flags, *more])

    assert train("memory://bucket/whole") == 0
    stopped = False

    def stop_once(self):
        nonlocal stopped
        found = push(self)
        if not stopped and any("checkpoints/last/" in name for name in self._complete()):
            stopped = True
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)
        return found

    push = Mirror.push
    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "push", stop_once)
        first = train("memory://bucket/parts")
    shutil.rmtree(tmp_path / "machine")
    assert first in (0, 143)
    assert train("memory://bucket/parts") == 0
    whole, parts = (json.loads(bucket.cat_file(f"/bucket/{name}/results.json")) for name in ("whole", "parts"))
    assert whole == parts
    shutil.rmtree(tmp_path / "machine")
    assert main(["evaluate", "--workdir", "memory://bucket/parts", "--json", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["rsum"] == pytest.approx(whole["test"]["rsum"])
    assert main(["evaluate", "--workdir", "memory://bucket/nothing"]) == 2
