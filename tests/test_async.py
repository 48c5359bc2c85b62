"""The bridge from ordinary code to an event loop."""

from __future__ import annotations

import asyncio

import pytest

from workbench._async import run


class Large:
    """Something whose text nobody should have to wait for."""

    written = 0

    def __repr__(self) -> str:
        self.written += 1
        return "a long text"


async def large() -> Large:
    return Large()


def test_what_a_coroutine_returns_is_not_written_out() -> None:
    assert run(large()).written == 0


def test_it_works_where_a_loop_runs_and_hands_errors_on() -> None:
    async def failing() -> None:
        raise ValueError("this one")

    async def cell() -> None:
        assert isinstance(run(large()), Large)
        with pytest.raises(ValueError, match="this one"):
            run(failing())

    asyncio.run(cell())
    with pytest.raises(ValueError, match="this one"):
        run(failing())
