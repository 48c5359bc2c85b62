"""Policies: engines (tokens in, tokens out) and renderers (the only place where text becomes tokens)."""

from workbench.policy.base import Engine, Generation, Policy, Renderer, Scores, Settings
from workbench.policy.loading import load
from workbench.policy.scripted import ScriptedEngine

__all__ = ["Engine", "Generation", "Policy", "Renderer", "Scores", "ScriptedEngine", "Settings", "load"]
