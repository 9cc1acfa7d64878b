"""The command line; see `alignment_jax.cli.main`."""
