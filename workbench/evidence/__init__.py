"""What fills columns: providers of evidence, and `collect`, which runs them and keeps their results by content."""

from workbench.evidence.base import Evidence, Meter, Provider, Sees, Values, collect, collect_async, run_sync
from workbench.evidence.cache import Cache

__all__ = ["Cache", "Evidence", "Meter", "Provider", "Sees", "Values", "collect", "collect_async", "run_sync"]
