"""Our own attention kernels in the Triton language, and what surrounds attention on long packed histories.

A folder an operation: the file of the same name is its public function, `reference.py` its definition in torch, and
`launcher.py` starts its kernels. Every public function takes `implementation="reference"|"triton"` and never falls
back in silence.
"""
