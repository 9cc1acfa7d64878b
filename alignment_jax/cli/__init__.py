"""The command line. Only this room knows flags; see `alignment_jax.cli.main`."""
