"""From settings to an experiment: every name becomes a function, every duration a number of steps."""
