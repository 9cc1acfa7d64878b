"""Training: the pure step, and the loop around it that holds iterators, time and files.

- `objective`, `classification`, `scored`: what a step minimises, and the state it carries along.
- `step`, `resident`, `gradient_cache`, `together`: the step compiled for one device or several, over tables that live
  on the device, in micro-batches, or over several seeds at once.
- `state`, `optimizer`: what a step reads and writes.
- `samplers`, `orders`, `scoring`, `batching`: which samples an epoch shows, and how they become batches.
- `experiment`, `loop`, `evaluation`: one run, from its first step to its best checkpoint on val.
- `checkpoint`, `workdir`, `mirror`, `preemption`, `processes`: what a run survives, and how several processes make one.

`alignment_jax.config.build.build` makes an `Experiment` of a configuration, and `loop.fit` trains it.
"""
