"""Bits against BLEU on FLORES-200, English into French: one verified program a point.

python -m experiments.flores --workdir=DIR [--config=SIZE] [--config.FIELD=VALUE …]
"""

from experiments import frontier

if __name__ == "__main__":
    frontier.main("flores")
