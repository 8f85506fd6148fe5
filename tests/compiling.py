"""How the tests compile: quickly, as nearly all of their time is compilation of small programs."""

import os

# No optimisation by LLVM, one piece of code for each program, and the older emitters of fused
# loops: a quarter of the time to compile, and programs that are small run no slower.
QUICKLY = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)

# For `jax.jit`: the program that everybody else runs, whatever the tests' own flags.
AS_USERS = {
    "xla_backend_optimization_level": 3,
    "xla_cpu_use_fusion_emitters": True,
    "xla_cpu_parallel_codegen_split_count": 32,
}


def xla_flags(devices: int = 1) -> str:
    """The value of XLA_FLAGS for a process that sees so many devices."""
    given = os.environ.get("XLA_FLAGS", "")
    return f"{given} --xla_force_host_platform_device_count={devices}"
