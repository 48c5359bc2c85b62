"""Runs beyond one process: what a request needs, what it would cost, and the engines that carry it.

choose      `auto`: what fits this machine and model, and why; `check`: what is missing, with numbers
planner     memory, step time and the best split of GPUs, for machines that are not here
wall        where the wall time of a run went, and what it cost

worker      the driver of a scaled run: the worker of a local one, with another crew
crew        who does what: the driver plays and credits, learners learn, players sample; `cluster` starts Ray for them
learners    FSDP2 under Ray Train, told what to do through `post`; `sharing` has what all ranks do together
players     engines in Ray actors, together an `Engine`; `ahead` lets them play one step ahead
"""
