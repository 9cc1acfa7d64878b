"""The training loop: resuming to the same bits, early stopping, preemption, selection on val."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from shared_runs import shared_run

from alignment_jax import config as configs
from alignment_jax.core.errors import RunError
from alignment_jax.train.checkpoint import checksums
from alignment_jax.train.loop import Position, fit, initial_state

pytestmark = pytest.mark.slow
PATIENCE = 900  # seconds, for a process that hangs


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    rng = np.random.default_rng(0)
    code = rng.normal(size=(60, 6))
    path = tmp_path_factory.mktemp("data") / "pairs.npz"
    owner = np.repeat(np.arange(60), 2)
    np.savez(
        path,
        image=code @ rng.normal(size=(6, 12)),
        text=(code @ rng.normal(size=(6, 10)))[owner],
        text_to_image=owner,
        split=np.array((["train"] * 4 + ["val", "test"]) * 10),
    )
    return path


def make_config(data_file, **changes):
    config = configs.default()
    config.data = f"embeddings:{data_file}"
    config.model.dim = 8
    config.model.dropout = 0.3
    config.input.batch_size = 8
    config.optimizer.ema = 0.9
    config.weighting.signal = "variance"
    config.perturb.sigma = 0.05
    config.train.duration = "4 epochs"
    config.train.devices = 1
    config.eval.interval = "3 steps"
    config.checkpoint.interval = "2 steps"
    config.log.interval = "1 steps"
    config.update_from_flattened_dict(changes)
    return config


def run(config, workdir):
    return shared_run(config).fit(workdir, tensorboard=True)


def rows_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module", params=["on", "off"])
def resident(request):
    """Whether the training set lives on the device."""
    return request.param


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_file, resident):
    workdir = tmp_path_factory.mktemp("undisturbed")
    finished = run(make_config(data_file, **{"input.resident": resident}), workdir)
    return checksums(finished.variables), (workdir / "metrics.jsonl").read_bytes()


class _Killed(BaseException):
    """Simulates the end of the process: no code may catch it."""


@pytest.mark.parametrize("kill_at", [5, 13, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 4, 6, 19))])
def test_an_interrupted_run_ends_with_the_same_bits(kill_at, tmp_path, data_file, resident, undisturbed):
    config = make_config(data_file, **{"input.resident": resident})
    made = shared_run(config)

    def dying(rows, epoch, first):
        for number, batch in enumerate(made.experiment.batches(rows, epoch, first), start=first):
            if epoch * 5 + number == kill_at:
                raise _Killed
            yield batch

    with pytest.raises(_Killed):
        made.fit(tmp_path, batches=dying, tensorboard=True)
    finished = run(config, tmp_path)
    assert (checksums(finished.variables), (tmp_path / "metrics.jsonl").read_bytes()) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "victim"), [(64, "metrics|checkpoint"), (2500, "checkpoint")])
def test_a_full_disk_ends_a_run_in_one_line_and_the_run_resumes_after_that(
    limit, victim, tmp_path, data_file, resident, undisturbed, small_files
):
    config = make_config(data_file, **{"input.resident": resident})
    made = shared_run(config)

    def filling(rows, epoch, first):
        for number, batch in enumerate(made.experiment.batches(rows, epoch, first), start=first):
            if epoch * 5 + number == 4:
                block.__enter__()
            yield batch

    block = small_files(limit)
    try:
        with pytest.raises(RunError, match=victim) as error:
            made.fit(tmp_path, batches=filling, tensorboard=True)
    finally:
        block.__exit__(None, None, None)
    assert "\n" not in str(error.value)
    finished = run(config, tmp_path)
    assert (checksums(finished.variables), (tmp_path / "metrics.jsonl").read_bytes()) == undisturbed


def newest(workdir, kind):
    return max(
        (path for path in (workdir / "checkpoints" / kind).iterdir() if path.name.isdigit()), key=lambda p: int(p.name)
    )


def ruin(folder):
    """Cuts every file that holds arrays in half; not every byte of such a file matters."""
    for path in folder.rglob("*"):
        if path.is_file() and "d" in path.parts:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.slow
def test_a_damaged_newest_state_costs_the_steps_since_the_one_before(tmp_path, data_file, resident, undisturbed):
    config = make_config(data_file, **{"input.resident": resident})
    run(config, tmp_path)
    ruin(newest(tmp_path, "last"))
    finished = run(config, tmp_path)
    assert (checksums(finished.variables), (tmp_path / "metrics.jsonl").read_bytes()) == undisturbed
    assert "last/20 is damaged" in (tmp_path / "log.txt").read_text()


@pytest.mark.slow
def test_a_damaged_best_model_is_replaced_by_the_last_one(tmp_path, data_file):
    made = shared_run(make_config(data_file))
    experiment = made.experiment
    first = made.fit(tmp_path)
    best = newest(tmp_path, "best")
    assert int(best.name) == first.position.best_step
    ruin(best)
    again = made.fit(tmp_path)
    assert f"best/{best.name} is damaged" in (tmp_path / "log.txt").read_text()
    assert again.position.best_step == 20  # the run is over: the model of its last step is all there is
    assert again.position.best_value == experiment.evaluate(again.variables, experiment.evaluations["val"])["rsum"]


def test_another_seed_is_another_run(tmp_path, data_file, resident, undisturbed):
    made = shared_run(make_config(data_file, **{"input.resident": resident}))
    assert checksums(made.fit(tmp_path, seed=1).variables) != undisturbed[0]


def test_every_step_is_logged_once(undisturbed):
    steps = [json.loads(line)["step"] for line in undisturbed[1].splitlines()]
    assert steps == list(range(1, 21))


@pytest.mark.slow
def test_several_devices_train_as_one(tmp_path, data_file):
    """Two and four devices: test_step and test_device_data_set."""
    losses = []
    for count in (1, 8):
        made = shared_run(make_config(data_file, **{"train.devices": count}))
        made.fit(tmp_path / str(count), plan={"total_steps": 6})
        losses.append([row["train/loss"] for row in rows_of(tmp_path / str(count))])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


@pytest.mark.slow
def test_training_stops_early_and_keeps_the_best(tmp_path, data_file):
    changes = {
        "eval.patience": 2,
        "eval.interval": "1 steps",
        "optimizer.learning_rate": 0.0,
        "train.duration": "9 epochs",
    }
    finished = run(make_config(data_file, **changes), tmp_path)
    # learning rate 0: two evaluations after the first do not improve
    assert finished.position.stopped_early
    assert (finished.position.step, finished.position.best_step) == (3, 1)
    assert "stopped early" in (tmp_path / "log.txt").read_text()


@pytest.mark.slow
def test_multi_instance_metrics_are_printed_in_percent(tmp_path, data_file):
    found = {"rsum": 100.0, "mAP_a2b": 0.25, "mAP": 0.5}
    made = shared_run(make_config(data_file))
    made.fit(tmp_path, plan={"total_steps": 3}, evaluate=lambda *_: found, evaluate_for_log=None)
    assert "mAP 25.0, mAP 50.0" in (tmp_path / "log.txt").read_text()
    assert [row["val/mAP"] for row in rows_of(tmp_path) if "val/mAP" in row] == [0.5]


def test_the_log_calls_the_modalities_by_their_names_and_the_files_do_not(tmp_path, data_file):
    shared_run(make_config(data_file)).fit(tmp_path, plan={"total_steps": 3})
    log = (tmp_path / "log.txt").read_text()
    assert "image → text R@1 " in log
    assert "a2b" not in log
    assert {"val/a2b_R@1", "val/b2a_R@10"} <= rows_of(tmp_path)[-1].keys()


def test_a_collapse_is_reported_once_and_again_after_a_recovery(tmp_path, data_file):
    well = {"rsum": 1.0, "variance_a": 0.5, "participation_a": 5.0, "variance_b": 0.5, "participation_b": 5.0}
    a_lost = {**well, "variance_a": 1e-9}
    both_lost = {**a_lost, "participation_b": 1.0}
    values = iter([a_lost, a_lost, both_lost, both_lost, a_lost, well, well, a_lost])
    plan = {"total_steps": 8, "evaluate_every": 1}
    shared_run(make_config(data_file)).fit(tmp_path, plan=plan, evaluate=lambda *_: next(values), evaluate_for_log=None)
    log = (tmp_path / "log.txt").read_text().splitlines()
    warned = [line.partition("warning: ")[2].partition(":")[0] for line in log if "have collapsed" in line]
    assert warned == ["step 1", "step 3", "step 8"]


@pytest.mark.slow
def test_a_data_set_smaller_than_a_batch_or_than_the_devices_trains(tmp_path, data_file):
    config = make_config(data_file, **{"input.batch_size": 512, "train.devices": 8, "train.duration": "3 steps"})
    run(config, tmp_path)
    assert rows_of(tmp_path)[-1]["train/pairs"] == 40


@pytest.mark.slow
def test_gradient_accumulation_counts_batches(tmp_path, data_file):
    found = []
    changes = {"optimizer.accumulate": 2, "optimizer.warmup": "0 steps", "eval.interval": "100 steps"}
    made = shared_run(make_config(data_file, **changes, **{"optimizer.schedule": "constant"}))
    before = checksums(initial_state(made.experiment).params)
    for steps in (2, 3, 4):
        finished = made.fit(tmp_path / str(steps), plan={"total_steps": steps})
        found.append(checksums(finished.variables["params"]))
        assert found[-1] != before
    assert found[0] == found[1] != found[2]


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "schedule"), [("sgd", "linear"), ("lars", "constant")])
def test_optimizers_and_schedules_train(optimizer, schedule, tmp_path, data_file):
    changes = {"optimizer.name": optimizer, "optimizer.schedule": schedule, "train.duration": "3 steps"}
    run(make_config(data_file, **changes), tmp_path)
    assert np.isfinite(rows_of(tmp_path)[-1]["train/loss"])


def test_a_position_survives_json():
    for position in (Position(), Position(step=3, best_step=2, best_value=5.5)):
        assert Position.from_json(json.loads(json.dumps(position.to_json()))) == position


def test_the_selected_metric_must_exist(tmp_path, data_file):
    """Of an experiment made by hand; `build` checks configurations."""
    made = shared_run(make_config(data_file))
    with pytest.raises(RunError, match=r"eval\.metric is 'val/loss'.*val/rsum"):
        made.fit(tmp_path, plan={"metric": "val/loss"})


@pytest.mark.slow
def test_sigterm_and_ctrl_c_save_and_the_same_command_resumes(tmp_path, data_file, repository):
    config = f"{repository}/configs/flickr8k_frozen.py:runlocal,method=baseline,data=embeddings:{data_file}"
    fixed = ["--config.input.batch_size=8", "--config.train.devices=1", "--config.report.gallery=0"]
    fixed += ["--config.model.dim=8", "--config.checkpoint.interval=1000 epochs", "--config.eval.interval=1000 epochs"]
    command = [sys.executable, "-m", "alignment_jax", "train", "--config", config, *fixed]

    def start(name, epochs):
        arguments = [*command, f"--config.train.duration={epochs} epochs", "--workdir", str(tmp_path / name)]
        return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env={**os.environ})

    def stop_once(process, reached, number=signal.SIGTERM):
        """The signal as soon as `reached()`, and the status it ends with, however long a busy machine takes."""
        try:
            while not reached():
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.05)
            process.send_signal(number)
            return process.wait(timeout=PATIENCE)
        finally:
            process.kill()
            process.communicate()

    def steps():
        return len(log.read_text().split("\n")) if log.is_file() else 0

    log, said = tmp_path / "w" / "metrics.jsonl", tmp_path / "w" / "log.txt"
    assert stop_once(start("w", 100_000), lambda: steps() > 5) == 143
    assert "stopped by SIGTERM" in said.read_text()
    saved = sorted(
        int(path.name) for path in (tmp_path / "w" / "checkpoints" / "last").iterdir() if path.name.isdigit()
    )
    assert saved[-1] > 0
    # It saved the step that it was at: nothing was logged after it.
    assert max(row["step"] for row in rows_of(tmp_path / "w")) <= saved[-1]
    resumed = start("w", 100_000)
    assert stop_once(resumed, lambda: rows_of(tmp_path / "w")[-1]["step"] > saved[-1], signal.SIGINT) == 130
    assert "stopped by Ctrl-C" in said.read_text()
    assert f"resumed at step {saved[-1]}" in said.read_text()


@pytest.mark.slow
def test_training_leaves_no_recompilation_behind(tmp_path, data_file, resident):
    """One compilation for all steps: shapes and types do not change from batch to batch or epoch to epoch."""
    experiment = shared_run(make_config(data_file, **{"input.resident": resident})).experiment
    traced = []
    original = experiment.model.apply

    def counted(*args, **kwargs):
        traced.append(1)
        return original(*args, **kwargs)

    model = dataclasses.replace(experiment.model, apply=counted)
    fit(dataclasses.replace(experiment, model=model), tmp_path, quiet=True)
    assert len(traced) <= 2


def test_a_run_reports_its_compilation_and_a_finished_one_compiles_nothing(tmp_path, data_file):
    made = shared_run(make_config(data_file))
    made.fit(tmp_path, plan={"total_steps": 3})
    log = (tmp_path / "log.txt").read_text()
    assert log.index("compiling the training step") < log.index("step 1/3")
    made.fit(tmp_path, plan={"total_steps": 3})
    assert (tmp_path / "log.txt").read_text().count("compiling the training step") == 1
