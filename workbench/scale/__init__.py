"""Runs beyond one process: what a request needs, what it would cost, and the engines that carry it.

choose      `auto`: what fits this machine and model, and why; `check`: what is missing, with numbers
planner     memory, step time and the best split of GPUs, for machines that are not here
wall        where the wall time of a run went, and what it cost
"""
