"""Speed and accuracy on this machine: `python -m benchmarks.NAME --json FILE`."""
