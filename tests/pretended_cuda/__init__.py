"""Tests of what a GPU would have to do, on machines that have none.

``device`` makes a process believe in a CUDA device: tensors say ``cuda:0``, values are computed on
the CPU. What differs from a CPU is an error or is counted: operands on two devices are refused;
launches, bytes, copies and waits of the host are recorded, each with the line that caused it.
``costs`` says what an operation launches and moves, ``kernels`` has Triton's kernels in torch.
``test_pretended_cuda`` runs ``on_device_*`` in processes of their own, as a process cannot be told
otherwise afterwards.

Not modelled: time, several streams, cuDNN's choice of kernels and layouts, fragmented memory, the
order of sums. Libraries (cuDNN, CUB) may launch a few kernels more than stands here.
"""
