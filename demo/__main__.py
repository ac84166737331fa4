"""`python -m demo`: what `make demo` runs."""

from demo.demo import main
from janus import cli

if __name__ == "__main__":
    cli.run(main)
