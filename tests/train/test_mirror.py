"""Copies of a workdir at a URL: complete after every interruption, at any upload speed."""

import itertools
import json
import math
import os
import shutil
import threading

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding
from mirror_bucket import empty_bucket, read, save, wait_until

from alignment_jax.train import mirror as mirrors
from alignment_jax.train.checkpoint import BEST, Checkpoints, abstract, checksums
from alignment_jax.train.mirror import Mirror
from alignment_jax.train.workdir import locked


@pytest.fixture
def bucket():
    return empty_bucket()


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


def test_only_changed_files_are_sent_and_removed_files_deleted(bucket, tmp_path, monkeypatch):
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


def test_a_machine_that_could_not_upload_keeps_its_files(bucket, tmp_path):
    here = tmp_path / "here"
    save(here, 10, text="x")
    mirror = Mirror("memory://bucket/run", here)
    mirror.push()
    save(here, 20, text="y")
    assert Mirror("memory://bucket/run", here).fetch()
    assert (here / "checkpoints/last/20").is_dir()


def test_a_copy_that_is_deleted_during_the_run_is_uploaded_again(bucket, tmp_path):
    here = tmp_path / "here"
    save(here, 10, text="x")
    mirror = Mirror("memory://bucket/run", here)
    mirror.push()
    bucket.rm("/bucket/run", recursive=True)
    mirror.push()
    assert Mirror("memory://bucket/run", tmp_path / "there").fetch()
    assert read(tmp_path / "there") == read(here)


def test_files_that_vanish_during_upload_are_still_uploaded(bucket, tmp_path, monkeypatch):
    here = tmp_path / "here"
    save(here, 10, text="x")
    mirror = Mirror("memory://bucket/run", here)
    put = mirror._files.put_file

    def vanish(local, remote):
        if here.exists():
            shutil.rmtree(here)
        put(local, remote)

    before = read(here)
    monkeypatch.setattr(mirror._files, "put_file", vanish)
    assert mirror.push()
    assert Mirror("memory://bucket/run", tmp_path / "there").fetch()
    assert {**before, "RUN_ID": ""} == {**read(tmp_path / "there"), "RUN_ID": ""}


def without_links(*arguments, **options):
    raise OSError(1, "Operation not permitted")


class SlowUploads:
    """The first files take until the training has saved again; later uploads end as if the machine were lost."""

    def __init__(self, mirror, monkeypatch):
        self.saved, self.lost, self.cut_in, self.slow = threading.Condition(), False, math.inf, 0
        self.number, self.put = 0, mirror._files.put_file
        monkeypatch.setattr(mirror._files, "put_file", self.upload)

    def upload(self, local, remote):
        self.cut_in -= 1
        if self.cut_in < 0:
            raise KeyboardInterrupt
        self.slow -= 1
        with self.saved:
            started = self.number if self.slow >= 0 else -1
            assert self.saved.wait_for(lambda: self.number > started or self.lost, timeout=60)
        self.put(local, remote)

    def has_saved(self):
        with self.saved:
            self.number += 1
            self.saved.notify_all()


@pytest.mark.parametrize("links", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_uploads_slower_than_checkpoints_end_with_a_state_that_restores(links, bucket, tmp_path, monkeypatch):
    """Of checkpoints that live for two saves, while an upload takes more of them; then the machine is lost."""
    if not links:
        monkeypatch.setattr(os, "link", without_links)
    here = tmp_path / "here"
    mirror = Mirror("memory://bucket/run", here)
    slow = SlowUploads(mirror, monkeypatch)
    stop = threading.Event()

    def state(step):
        return {"w": jnp.full((16, 4), step, jnp.float32)}

    def train():
        checkpoints = Checkpoints(here / "checkpoints")
        for step in itertools.count(1):
            if stop.is_set():
                return checkpoints.close()
            with open(here / "metrics.jsonl", "a") as log:
                log.write(json.dumps({"step": step}) + "\n")
            checkpoints.save(step, state(step), {}, kind=BEST)
            checkpoints.save(step, state(step), {"best_step": step})
            checkpoints.wait()
            slow.has_saved()

    here.mkdir()
    training = threading.Thread(target=train)
    training.start()
    try:
        wait_until(lambda: slow.number >= 1)
        slow.slow = 3  # two saves delete the newest checkpoint
        assert mirror.push()
        first = json.loads(bucket.cat_file("/bucket/run/MIRROR.json"))["files"]
        slow.slow = 3
        assert mirror.push()
        slow.slow = slow.cut_in = 3
        with pytest.raises(KeyboardInterrupt):
            mirror.push()
    finally:
        stop.set()
        slow.lost = True
        training.join()
    listed = json.loads(bucket.cat_file("/bucket/run/MIRROR.json"))["files"]
    assert first.keys() != listed.keys()
    assert {name: bucket.size(f"/bucket/run/{name}") for name in listed} == listed
    there = tmp_path / "there"
    assert Mirror("memory://bucket/run", there).fetch()
    target = abstract(state(0), SingleDeviceSharding(jax.devices()[0]))
    checkpoints = Checkpoints(there / "checkpoints")
    restored = checkpoints.restore(target)
    step = restored.step
    assert step > 1
    assert checksums(restored.state) == checksums(state(step))
    assert restored.loop == {"best_step": step}
    assert checkpoints.read(step, target, kind=BEST)[0] == ""
    assert step in [json.loads(line)["step"] for line in (there / "metrics.jsonl").read_text().splitlines()]
    assert not list(tmp_path.glob("here.push-*"))


def test_remains_of_a_killed_upload_are_deleted_but_not_files_in_use(bucket, tmp_path):
    save(tmp_path / "here", 10, text="x")
    left, used = tmp_path / "here.push-1", tmp_path / "here.push-2"
    for folder in (left, used):
        (folder / "files").mkdir(parents=True)
        (folder / ".lock").touch()
    with locked(used):
        assert Mirror("memory://bucket/run", tmp_path / "here").push()
        assert not left.exists()
        assert used.exists()


@pytest.mark.slow
def test_training_resumes_on_a_new_machine(bucket, tmp_path, monkeypatch, embeddings, repository):
    """Train, lose the machine, resume: the same results as without the loss; evaluate reads the URL, too."""
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
        if not stopped and any("checkpoints/last/" in name for name in mirrors.finished_files(self.folder)):
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
