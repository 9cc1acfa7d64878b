"""Copies of a workdir at a URL: the folder of another run is set aside, every error is one line."""

import json

import pytest
from mirror_bucket import HttpError, empty_bucket, failing, fsspec, read, save, wait_until

from alignment_jax.core.errors import RunError, UserError
from alignment_jax.train import mirror as mirrors
from alignment_jax.train.mirror import Mirror
from alignment_jax.train.workdir import locked


@pytest.fixture
def bucket():
    return empty_bucket()


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

    with pytest.raises(UserError, match="another configuration"), common.writable_workdir(values) as folder:
        refuse(folder)
    assert found == read(there)
    assert capsys.readouterr().out.count("set aside") == 1
    assert Mirror("memory://bucket/run", tmp_path / "new").fetch()
    assert read(tmp_path / "new") == read(there)


def test_process_0_writes_after_the_others_have_fetched(bucket, tmp_path, monkeypatch):
    """Otherwise another process on this machine would set aside the new files of process 0."""
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
            calls.append("result of process 0")

        monkeypatch.setattr(common.processes, "compute_on_primary", compute_on_primary)
        monkeypatch.setattr(Mirror, "fetch", lambda self, calls=calls: calls.append("fetch"))
        with common.writable_workdir(values):
            waits = [call for call in calls if call != "fetch"]
            assert len(waits) == 2
            assert calls.index("fetch") == (0 if primary else 1)


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


@pytest.mark.parametrize("error", [HttpError("503\nafter retries"), ValueError("no such"), TimeoutError()])
def test_every_error_of_a_file_system_is_one_line(error, bucket, tmp_path, monkeypatch):
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


def test_copying_continues_after_any_error_with_one_message(bucket, tmp_path, monkeypatch):
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
    assert len(said) == 1
    assert "memory://bucket/run: 503" in said[0]


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
    assert len(said) == 1
    assert "memory://typo/run" in said[0]
    assert "memory://typo/run" in str(raised.value)
    assert str(here) in str(raised.value)
    assert raised.value.exit_status == 1
    with pytest.raises(UserError, match="first"), mirrors.mirrored(mirror, message=said.append):
        raise UserError("first")
    assert str(here) in said[-1]


def test_a_file_system_without_credentials_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(fsspec.core, "url_to_fs", failing(HttpError("no default\ncredentials")))
    with pytest.raises(RunError, match=r"memory://bucket/run .*no default credentials"):
        Mirror("memory://bucket/run", tmp_path)


def test_an_unknown_file_system_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="nosuch"):
        Mirror("nosuch://bucket/run", tmp_path)
