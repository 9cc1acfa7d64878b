"""`python -m alignment_jax` is the console script."""

from alignment_jax.cli.main import console

if __name__ == "__main__":
    console()
