"""Do branches fit the trajectories they branched from?"""

from __future__ import annotations

from collections.abc import Mapping

from workbench.store.report import OnProblem, Problem
from workbench.trajectory import Trajectory


def misfit(t: Trajectory, by_id: Mapping[str, Trajectory]) -> str | None:
    """Say why a branch does not fit its ancestors; None if it does, or as far as they are not here."""
    seen = {t.id}
    at = t
    while at.parent is not None and at.parent[0] in by_id:
        at = by_id[at.parent[0]]
        if at.id in seen:
            return f"parent: its ancestors run in a circle ({at.id!r} is its own ancestor)"
        seen.add(at.id)
    if t.parent is not None and t.parent[0] in by_id:
        turns = len(by_id[t.parent[0]].turns)
        if not -1 <= t.parent[1] < turns:
            return f"parent: branches after turn {t.parent[1]} of {t.parent[0]!r}, which has {turns} turns"
    for number, sequence in enumerate(t.sequences):
        prefix = sequence.prefix
        if prefix is None or prefix.trajectory not in by_id:
            continue
        where, above = f"sequences[{number}].prefix", by_id[prefix.trajectory].sequences
        if prefix.trajectory not in seen or prefix.trajectory == t.id:
            return f"{where}: {prefix.trajectory!r} is not among its ancestors"
        if not 0 <= prefix.sequence < len(above):
            return f"{where}: {prefix.trajectory!r} has {len(above)} sequences, no number {prefix.sequence}"
        if not 0 <= prefix.length <= len(above[prefix.sequence]):
            have = len(above[prefix.sequence])
            return f"{where}: {prefix.length} tokens, but that sequence of {prefix.trajectory!r} has {have}"
    return None


def without_misfits(trajectories: tuple[Trajectory, ...], tell: OnProblem) -> tuple[Trajectory, ...]:
    """Leave out branches that do not fit, and tell of each."""
    by_id = {t.id: t for t in trajectories}
    why = {t.id: misfit(t, by_id) for t in trajectories if t.parent is not None}
    for name, problem in why.items():
        if problem is not None:
            tell(Problem("", None, name, problem))
    return tuple(t for t in trajectories if why.get(t.id) is None)
