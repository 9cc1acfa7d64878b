"""The default search space of `compare --search`.

Each line is "[method:] setting = kind(values)", see `compare.search.parse_range`. `times` multiplies the value of the
configuration. The ranges of a method include its authors' published values.
"""

DEFAULT_SEARCH = (
    "optimizer.learning_rate = times(0.2, 5)",
    "optimizer.weight_decay = times(0.1, 10)",
    "vals: weighting.decay = uniform(0.5, 0.99)",
    "vals: weighting.strength = uniform(0.2, 1)",
    "vals: weighting.mode = choice(proportional, inverse)",
    "vals_probability: weighting.decay = uniform(0.5, 0.99)",
    "vals_probability: weighting.strength = uniform(0.2, 1)",
    "vals_probability: weighting.mode = choice(proportional, inverse)",
    "vals_loss: weighting.decay = uniform(0.5, 0.99)",
    "vals_loss: weighting.strength = uniform(0.2, 1)",
    "vals_loss: weighting.mode = choice(proportional, inverse)",
    "modest_align: perturb.sigma = log(0.01, 1)",
    "modest_align: perturb.fusemix = log(0.3, 3)",
    "modest_align: smoothing.start = uniform(0, 0.3)",
    "noise: perturb.sigma = log(0.01, 1)",
    "fusemix: perturb.fusemix = log(0.3, 3)",
    "smoothing: smoothing.start = uniform(0, 0.3)",
    "mm_ts: temperature.alpha = uniform(0.01, 0.08)",
    "mm_ts: temperature.min_shift = uniform(0.05, 0.1)",
    "mm_ts: temperature.max_shift = uniform(0.1, 0.3)",
    "mm_ts_margin: margin.alpha = uniform(0.01, 0.08)",
    "mm_ts_margin: margin.min_shift = uniform(0.05, 0.15)",
    "mm_ts_margin: margin.max_shift = uniform(0.15, 0.4)",
    "structure: structure.weight = log(0.5, 50)",
    "structure: structure.temperature = log(0.02, 0.2)",
    "sotalign: transport.weight = log(1e-5, 10)",
    "sotalign: transport.epsilon = log(0.02, 0.2)",
    "bss: sampling.floor = log(0.003, 0.3)",
    "bss: sampling.replacement = choice(True, False)",
    "probabilistic: sampling.floor = log(0.003, 0.3)",
    "curriculum: sampling.start = uniform(0.05, 0.5)",
)
