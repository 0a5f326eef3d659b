"""GPUs and memory: what each kind of GPU is, which are in this machine, and what of a model fits into them.

accelerators.yaml   the one table of GPUs, with its sources; accelerators.py reads it
nvml.py             the GPUs of this machine, asked for as Ray asks
architecture.py     config.json to weight matrices, with and without torch (meta.py)
layouts.py          how many bytes a matrix takes on each GPU, quantised or not
memory.py           weights, KV cache and reserves of a teacher; teacher_fit.py says what comes of it
training_memory.py  the same of a student
throughput.py       how long an engine takes, by bandwidth and arithmetic
"""
