"""Janus: the model, its data, its training and its measurement. Installs and runs without Beam and Prefect."""

import os

# Some virtual machines announce AMX and kill the process (SIGILL) at its first use, which is any bf16 matrix product on
# the CPU. Here the CPU runs tests and the tiny preset only, so we do without AMX; set the variable to choose otherwise.
# oneDNN reads it at its first use, so it is in time as long as this package is imported before a model runs.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
