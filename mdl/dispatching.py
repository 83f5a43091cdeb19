"""When a program that several CPU devices of this process compute is started: once the one before it has ended.

XLA's CPU client starts the parts of such a program in a pool of as many threads as it has devices, and lets 32 programs
wait for each device (`max_inflight_computations_per_device` of its `CpuClientOptions`, which jaxlib 0.10 and 0.11 do
not pass on). The next one is held back in a thread of that very pool. If a part of the program that is running has no
thread yet, its other parts wait for it in a sum, and it waits for that thread: for ever. jax_cpu_enable_async_dispatch
does not change this: it "only applies to non-parallel computations".
"""

import functools

import jax
from jax._src.interpreters import pxla  # nothing public is asked whenever a program is run, operations by name included


@functools.cache
def one_by_one() -> None:
    """Makes JAX wait where such a program is called, until it has ended; costs other programs nothing.

    Whatever is run, from here on: what `jax.jit` compiled, and each operation on arrays that several devices have.
    """
    build = pxla.UnloadedMeshExecutable.build_unsafe_call

    def build_waiting(executable):
        run = build(executable)
        devices = executable.xla_executable.local_devices()
        if len(devices) == 1 or devices[0].platform != "cpu":
            return run
        # Being no `ExecuteReplicated`, it is called each time: JAX would otherwise run what is compiled without it.
        return lambda *arguments: jax.block_until_ready(run(*arguments))

    pxla.UnloadedMeshExecutable.build_unsafe_call = build_waiting
