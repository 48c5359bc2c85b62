"""What fills columns: providers of evidence, and `collect`, which runs them and keeps their results by content."""

from workbench.evidence.answers import AnswerOutcome
from workbench.evidence.base import Evidence, Meter, Provider, Sees, Values, collect, collect_async, run_sync
from workbench.evidence.cache import Cache
from workbench.evidence.calls import CallMatch, FormatScore, LastRecorded, ToolSuccess
from workbench.evidence.format import BadFormat, Called
from workbench.evidence.matching import ToolMatching
from workbench.evidence.oracle import Recorded
from workbench.evidence.retries import Tries
from workbench.evidence.scoring import SampledLogprobs, TokenEntropy, model_hash
from workbench.evidence.states import StateIdentity
from workbench.evidence.table import MissingEvidence, for_recipe
from workbench.evidence.unreliable import Unreliable
from workbench.evidence.user_state import UserDistance
from workbench.evidence.warm_up import WarmUp

__all__ = [
    "AnswerOutcome",
    "BadFormat",
    "Cache",
    "CallMatch",
    "Called",
    "Evidence",
    "FormatScore",
    "LastRecorded",
    "Meter",
    "MissingEvidence",
    "Provider",
    "Recorded",
    "SampledLogprobs",
    "Sees",
    "StateIdentity",
    "TokenEntropy",
    "ToolMatching",
    "ToolSuccess",
    "Tries",
    "Unreliable",
    "UserDistance",
    "Values",
    "WarmUp",
    "collect",
    "collect_async",
    "for_recipe",
    "model_hash",
    "run_sync",
]
