"""Training: the pure step, and the loop around it that holds iterators, time and files.

- `objective`, `classification_objective`, `score_tracking`: what a step minimises, and the state it carries.
- `step`, `device_data_set`, `gradient_cache`, `vmapped_seeds`: the step compiled for one device or several, over tables
  on the device, in micro-batches, or over several seeds at once.
- `state`, `optimizer`: what a step reads and writes.
- `batching`, `score_pass`: rows of every batch, and the pass that scores every sample.
- `experiment`, `loop`, `evaluation`: one run, from its first step to its best checkpoint on val.
- `checkpoint`, `workdir`, `mirror`, `preemption`, `processes`: restarts, and several processes that train one run.

`alignment_jax.assembly.build.build` turns a configuration into an `Experiment`; `loop.fit` trains it.
"""
