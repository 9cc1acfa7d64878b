"""A workdir at a URL: a file system in memory stands for the bucket, interrupted between any two files."""

import itertools
import json
import math
import os
import shutil
import threading
import time

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from alignment_jax.core.errors import RunError, UserError
from alignment_jax.train import mirror as mirrors
from alignment_jax.train.checkpoint import BEST, Checkpoints, abstract, checksums
from alignment_jax.train.mirror import Mirror
from alignment_jax.train.workdir import locked

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


class HttpError(Exception):
    """As in gcsfs: no OSError."""


def failing(error, *, times=None):
    """A call of a file system that raises, for ever or the first few times."""
    numbers = itertools.count() if times is None else iter(range(times))

    def call(*arguments, **options):
        if next(numbers, None) is not None:
            raise error

    return call


def wait_until(condition):
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


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


def test_the_local_folder_of_a_deleted_run_is_set_aside_and_not_uploaded_again(bucket, tmp_path):
    here, said = tmp_path / "here", []
    for number in (1, 2):
        save(here, 10, text="x")
        Mirror("memory://bucket/run", here).push()
        bucket.rm("/bucket/run", recursive=True)
        mirror = Mirror("memory://bucket/run", here)
        assert not mirror.fetch(message=said.append)
        mirror.push()
        assert not bucket.find("/bucket")
        assert not here.exists()
        assert (tmp_path / f"here.aside-{number}/checkpoints/last/10").is_dir()
        assert len(said) == number
        assert str(tmp_path / f"here.aside-{number}") in said[-1]


def test_the_local_folder_of_another_run_is_set_aside(bucket, tmp_path):
    """However many steps it has and although the configuration is the same."""
    here, there, said = tmp_path / "here", tmp_path / "there", []
    for folder, step in ((here, 100), (there, 50)):
        save(folder, step, text=folder.name)
        (folder / "config.json").write_text("{}")
    Mirror("memory://bucket/run", here).push()
    bucket.rm("/bucket/run", recursive=True)
    Mirror("memory://bucket/run", there).push()
    with pytest.raises(RunError, match="holds another run"):
        Mirror("memory://bucket/run", here).push()
    assert Mirror("memory://bucket/run", here).fetch(message=said.append)
    assert read(here) == read(there)
    assert len(said) == 1
    assert (tmp_path / "here.aside-1/checkpoints/last/100").is_dir()


def test_a_folder_in_use_is_not_set_aside(bucket, tmp_path):
    here = tmp_path / "here"
    save(here, 10, text="x")
    with locked(here), pytest.raises(UserError, match="in use"):
        Mirror("memory://bucket/run", here).fetch()
    assert (here / "checkpoints/last/10").is_dir()


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("without", ["url", "folder"])
def test_runs_without_a_name_are_compared_by_their_configuration(without, same, bucket, tmp_path):
    here = tmp_path / "here"
    save(here, 10, text="x")
    (here / "config.json").write_text("{}")
    Mirror("memory://bucket/run", here).push()
    if without == "folder":
        (here / "RUN_ID").unlink()
    else:
        listed = json.loads(bucket.cat_file("/bucket/run/MIRROR.json"))
        listed["files"].pop("RUN_ID")
        bucket.pipe_file("/bucket/run/MIRROR.json", json.dumps({"files": listed["files"]}).encode())
        bucket.rm("/bucket/run/RUN_ID")
    if not same:
        (here / "config.json").write_text('{"seed": 1}')
    save(here, 20, text="y")
    mirror = Mirror("memory://bucket/run", here)
    assert mirror.fetch()
    assert (here / "checkpoints/last/20").is_dir() == same
    assert (tmp_path / "here.aside-1").exists() != same
    assert mirror.push()
    listed = json.loads(bucket.cat_file("/bucket/run/MIRROR.json"))
    assert listed["run"] == (here / "RUN_ID").read_text().strip()


def test_a_refused_training_leaves_the_run_at_the_url(bucket, tmp_path, monkeypatch, capsys):
    """The local folder is of an older run; the configuration is refused only after the fetch."""
    from absl import flags

    from alignment_jax.cli import common

    monkeypatch.setenv("HOME", str(tmp_path))
    values = flags.FlagValues()
    common.define_workdir(values, "")
    values(["", "--workdir=memory://bucket/run"])
    here, there = mirrors.local_folder("memory://bucket/run"), tmp_path / "there"
    save(here, 100, text="old")
    save(there, 50, text="new")
    for folder in (here, there):
        (folder / "config.json").write_text(json.dumps({"of": folder.name}))
        for path in bucket.find("/"):
            bucket.rm(path)
        Mirror("memory://bucket/run", folder).push()
    found = {}

    def refuse(folder):
        found.update(read(folder))
        raise UserError("another configuration")

    with pytest.raises(UserError, match="another configuration"), common.kept_workdir(values) as folder:
        refuse(folder)
    assert found == read(there)
    assert capsys.readouterr().out.count("set aside") == 1
    assert Mirror("memory://bucket/run", tmp_path / "new").fetch()
    assert read(tmp_path / "new") == read(there)


def test_process_0_begins_when_the_others_have_fetched(bucket, tmp_path, monkeypatch):
    """Another process on this machine would otherwise set aside what process 0 has begun and not uploaded."""
    from absl import flags

    from alignment_jax.cli import common

    monkeypatch.setenv("HOME", str(tmp_path))
    values = flags.FlagValues()
    common.define_workdir(values, "")
    values(["", "--workdir=memory://bucket/run"])
    for primary in (True, False):
        calls = []
        monkeypatch.setattr(common.processes, "is_primary", lambda primary=primary: primary)
        monkeypatch.setattr(common.processes, "barrier", calls.append)

        def compute_on_primary(compute, calls=calls, primary=primary):
            if primary:
                compute()
            calls.append("heard process 0")

        monkeypatch.setattr(common.processes, "compute_on_primary", compute_on_primary)
        monkeypatch.setattr(Mirror, "fetch", lambda self, calls=calls: calls.append("fetch"))
        with common.kept_workdir(values):
            waits = [call for call in calls if call != "fetch"]
            assert len(waits) == 2
            assert calls.index("fetch") == (0 if primary else 1)


def test_a_copy_that_is_deleted_while_the_run_goes_on_is_made_again(bucket, tmp_path):
    here = tmp_path / "here"
    save(here, 10, text="x")
    mirror = Mirror("memory://bucket/run", here)
    mirror.push()
    bucket.rm("/bucket/run", recursive=True)
    mirror.push()
    assert Mirror("memory://bucket/run", tmp_path / "there").fetch()
    assert read(tmp_path / "there") == read(here)


@pytest.mark.parametrize("error", [HttpError("503\nafter retries"), ValueError("no such"), TimeoutError()])
def test_whatever_a_file_system_raises_is_one_line(error, bucket, tmp_path, monkeypatch):
    save(tmp_path / "here", 10, text="x")
    mirror = Mirror("memory://bucket/run", tmp_path / "here")
    mirror.push()
    other = Mirror("memory://bucket/run", tmp_path / "there")
    save(tmp_path / "here", 20, text="x")
    for name, call in (
        ("cat_file", other.fetch),
        ("get_file", other.fetch),
        ("put_file", mirror.push),
        ("pipe_file", mirror.push),
        ("makedirs", mirror.push),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(mirror._files, name, failing(error))
            mirror._sent.clear()
            with pytest.raises(RunError, match="memory://bucket/run cannot be ") as raised:
                call()
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "there").exists()


def test_the_copying_survives_errors_of_any_kind_and_says_so_once(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(mirrors, "INTERVAL_SECONDS", 0.01)
    save(tmp_path / "here", 10, text="x")
    mirror = Mirror("memory://bucket/run", tmp_path / "here")
    push, fail, said = mirror.push, failing(HttpError("503"), times=4), []
    monkeypatch.setattr(mirror, "push", lambda: fail() or push())

    def message(text):
        said.append(text)
        raise BrokenPipeError

    with mirrors.mirrored(mirror, message=message):
        wait_until(lambda: bucket.exists("/bucket/run/MIRROR.json"))
    assert said == ["workdir memory://bucket/run: 503; trying again"]


@pytest.mark.parametrize("call", ["put_file", "pipe_file"])
def test_a_bucket_that_does_not_exist_is_noticed(call, bucket, tmp_path, monkeypatch):
    """Object stores answer 404 with the error of a missing file."""
    monkeypatch.setattr(mirrors, "INTERVAL_SECONDS", 0.01)
    here, said = tmp_path / "here", []
    save(here, 10, text="x")
    mirror = Mirror("memory://typo/run", here)
    monkeypatch.setattr(mirror._files, call, failing(FileNotFoundError("no such bucket")))
    with pytest.raises(RunError) as raised, mirrors.mirrored(mirror, message=said.append):
        wait_until(lambda: said)
    assert said == ["workdir memory://typo/run cannot be written: no such bucket; trying again"]
    assert str(raised.value).endswith(f"no such bucket; what is not there stays in {here}")
    assert raised.value.exit_status == 1
    with pytest.raises(UserError, match="first"), mirrors.mirrored(mirror, message=said.append):
        raise UserError("first")
    assert str(here) in said[-1]


def test_what_vanishes_while_it_is_sent_arrives_all_the_same(bucket, tmp_path, monkeypatch):
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
    """The first files take until the training has saved once more; later uploads end as when a machine is lost."""

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
            begun = self.number if self.slow >= 0 else -1
            assert self.saved.wait_for(lambda: self.number > begun or self.lost, timeout=60)
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
        slow.slow = 3  # two would do to delete what was newest
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


def test_what_a_killed_upload_left_is_cleared_and_what_another_uses_is_not(bucket, tmp_path):
    save(tmp_path / "here", 10, text="x")
    left, used = tmp_path / "here.push-1", tmp_path / "here.push-2"
    for folder in (left, used):
        (folder / "files").mkdir(parents=True)
        (folder / ".lock").touch()
    with locked(used):
        assert Mirror("memory://bucket/run", tmp_path / "here").push()
        assert not left.exists()
        assert used.exists()


def test_a_file_system_without_credentials_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(fsspec.core, "url_to_fs", failing(HttpError("no default\ncredentials")))
    with pytest.raises(RunError, match="memory://bucket/run cannot be reached: no default credentials"):
        Mirror("memory://bucket/run", tmp_path)


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
