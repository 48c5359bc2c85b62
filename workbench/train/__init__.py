"""Training loops that read top to bottom, and runs in processes of their own."""

from workbench.glossary import glossary
from workbench.train.launch import launch, resume

__all__ = ["glossary", "launch", "resume"]
