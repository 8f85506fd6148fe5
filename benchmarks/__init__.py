"""Speed and accuracy on this machine: `python -m benchmarks.NAME --json FILE`.

Shared by them, and no commands: machine, mixture, plain, scenes. The benchmarks of the paper are
entries of scorehmr_jax/evaluation/benchmarks.py.
"""
