"""Training: a pure step, and the loop around it that handles iterators, time and files.

- `objective`, `classification_objective`, `score_tracking`, `perturbation`: the loss of a step and its state.
- `state`, `optimizer`, `step`, `gradient_cache`, `device_data_set`: the step, compiled for one device or several, in
  micro-batches, or over tables on the device.
- `loop`: epochs and steps. Beside it, one file each: `start`, `position`, `due`, `epoch_order`, `finite_check`,
  `metrics_writer`, `periodic_evaluation`, `best_checkpoint`.
- `vmapped_seeds`: the loop for several seeds at once.
- `batching`, `score_pass`: the rows of every batch, and the pass that scores every sample.
- `experiment`, `evaluation`: one run as plain functions, and the metrics of a model.
- `checkpoint`, `workdir`, `snapshot`, `mirror`, `background`, `preemption`: restarts and copies at a URL.
- `processes`, `broadcast`: several processes that train one run.

`alignment_jax.assembly.build.build` turns a configuration into an `Experiment`; `loop.fit` trains it.
"""
