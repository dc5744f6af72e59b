"""Our own attention kernels in the Triton language, and what surrounds attention on long packed histories.

One stem an op: `op.py` is its public function, `op_reference.py` its definition in torch, `op_triton.py` its kernels
and launchers. Every public function takes `implementation="reference"|"triton"` and never falls back in silence.
"""
