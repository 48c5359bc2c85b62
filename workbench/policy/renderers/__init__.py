"""Renderers: the only place where text becomes tokens."""

from workbench.policy.renderers.chat import ChatTemplate
from workbench.policy.renderers.codec import Codec
from workbench.policy.renderers.plain import ANSWER, SEARCH, PlainText, Shot

__all__ = ["ANSWER", "SEARCH", "ChatTemplate", "Codec", "PlainText", "Shot"]
