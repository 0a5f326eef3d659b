"""GPUs and memory: what of a model fits into which kind of GPU (:mod:`runner.system.accelerators`).

weights.py          a model's weight matrices: by arithmetic (:mod:`runner.models.architecture`), or by torch (meta.py)
layouts.py          how many bytes a matrix takes on each GPU, quantised or not
memory.py           weights, KV cache and reserves of a teacher; teacher_fit.py says what comes of it
training_memory.py  the same of a student
throughput.py       how long an engine takes, by bandwidth and arithmetic
"""
