"""Policy x environment -> trajectories, with the exact tokens of every turn."""

from workbench.rollout.rounds import Report, play, play_async

__all__ = ["Report", "play", "play_async"]
