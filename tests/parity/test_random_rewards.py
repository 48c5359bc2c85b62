"""SIOP, UFO and ARTIST against slow references that walk lists, on random ragged cases."""

from __future__ import annotations

import math
import random
from typing import Any

import run as parity


def ok(method: str, function: str, inputs: Any, params: Any, expected: Any) -> None:
    case = {"name": "random", "function": function, "inputs": inputs, "params": params, "expected": expected}
    found = parity.run_case(method, case)
    assert found.status == "ok", (found, inputs, params)


def test_siop_targets() -> None:
    for seed in range(40):
        draw = random.Random(seed)
        answers = [draw.choice(["a", "A", "b", "B ", "c", None]) for _ in range(draw.randint(1, 7))]
        classes = [["a", "A"], ["b", "B"], ["c"]]
        scores = [[round(draw.random(), 3) for _ in range(draw.randint(0, 3))] for _ in answers]
        eta, most = draw.choice([0.5, 1.0, 2.0]), draw.randint(1, 3)
        of = [None if a is None else a.strip().lower() for a in answers]
        answered = sum(one is not None for one in of)
        mass: dict[str, float] = {}
        for one in {o for o in of if o}:
            own = [sum(s) / len(s) for s, o in zip(scores, of, strict=True) if o == one and s]
            mass[one] = of.count(one) / answered * math.exp(eta * (sum(own) / len(own) if own else 0.0))
        told: dict[str, list[str]] = {}
        for answer, one in zip(answers, of, strict=True):
            if one and answer.strip() not in told.setdefault(one, []):  # type: ignore[union-attr]
                told[one].append(answer.strip())  # type: ignore[union-attr]
        expected = {
            "m": [of.count(one) / answered if one else 0.0 for one in of],
            "q_eta1": [mass[one] / sum(mass.values()) if one else 0.0 for one in of],
            "reference": [told[one][0] if one else "" for one in of],
            "reference_set": [told[one][:most] if one else [] for one in of],
        }
        inputs = {"answers": answers, "bidirectional_entailment_classes": classes}
        inputs["tool_responses_entailment_to_own_reference"] = scores
        ok("SIOP", "clusters", inputs, {"eta": eta, "num_refs": most, "strict": True}, expected)


def test_siop_rewards() -> None:
    for seed in range(40):
        draw = random.Random(seed)
        q, rows, expected = [], [], []
        lam, eps = draw.choice([0.0, 0.3, 1.0]), draw.choice([1e-8, 1e-3])
        for _ in range(draw.randint(1, 4)):
            turns, refs = draw.randint(0, 4), draw.randint(1, 3)
            row = [[-5 * draw.random() for _ in range(refs)] for _ in range(turns + 1)] if turns else []
            q.append(draw.random() if turns else 0.0)
            rows.append(row)
            p = [sum(math.exp(x) for x in one) / refs for one in row]
            paid = [q[-1] * (math.log(b + eps) - math.log(a + eps)) for a, b in zip(p, p[1:], strict=False)]
            expected.append([*paid[:-1], paid[-1] + (1 - lam) * q[-1]] if paid else [])
        inputs = {"q_c": q, "ref_mean_logp_by_turn_then_ref": rows}
        ok("SIOP", "rewards", inputs, {"lambda": lam, "eps": eps}, {"rewards": expected})


def test_siop_turn_advantages() -> None:
    for seed in range(40):
        draw = random.Random(seed)
        sizes = [draw.randint(1, 4) for _ in range(draw.randint(1, 6))]
        groups = [draw.choice(["x", "y"]) for _ in sizes]
        rewards = [[draw.choice([0.0, 0.5, draw.random()]) for _ in range(n)] for n in sizes]
        gamma, expected = draw.choice([1.0, 0.9, 0.0]), []
        for row, group in zip(rewards, groups, strict=True):
            pool = [r for other, g in zip(rewards, groups, strict=True) if g == group for r in other]
            mean = sum(pool) / len(pool)
            spread = math.sqrt(sum((r - mean) ** 2 for r in pool) / (len(pool) - 1)) if len(pool) > 1 else 0.0
            z = [0.0 if len(pool) < 2 else (r - mean) / ((spread if spread >= 1e-6 else 1.0) + 1e-6) for r in row]
            running, out = 0.0, []
            for value in reversed(z):
                running = value + gamma * running
                out.insert(0, running)
            expected.append(out)
        inputs = {"turn_rewards": rewards, "groups": groups}
        ok("SIOP", "turn_advantages", inputs, {"gamma": gamma}, {"turn_advantages": expected})


def test_ufo_episodes() -> None:
    for seed in range(60):
        draw = random.Random(seed)
        gamma, lam, most = draw.choice([0.5, 0.8]), draw.choice([0.0, 0.5, 1.0]), draw.choice([3, 5])
        answers = [draw.choice(["3", "3 ", " 4", "x y", "X Y", "7"]) for _ in range(draw.randint(1, most))]
        turns, seen, total, penalty = [], [], 0.0, 0.0
        for t, answer in enumerate(answers):
            form = "".join(answer.lower().split())
            seen.append(form)
            right, over = form == "7", form == "7" or t + 1 >= most
            if over:
                penalty = lam * (1 - len(set(seen)) / len(seen))
                total = (gamma**t if right else 0.0) - penalty
            said = "Correct!" if over else "Incorrect. Please think again."
            turns.append({"obs": said, "reward": total if over else 0.0, "done": over})
            if over:
                break
        params = {"variant": "released", "gamma": gamma, "repetition_lambda": lam, "max_turns": most}
        expected = {"per_turn": turns, "episode_return": total, "penalty": penalty}
        ok("UFO", "reward", {"answers": answers, "gold": " 7"}, params, expected)


def test_artist_groups() -> None:
    for seed in range(40):
        draw = random.Random(seed)
        rows = []
        for _ in range(draw.randint(2, 6)):
            calls = draw.randint(0, 4)
            form = draw.choice([0.0, 0.5, 1.0])
            rows.append({"correct": draw.random() < 0.5, "format": form, "calls": calls, "ok": draw.randint(0, calls)})
        weight, ddof = draw.choice([1.0, 2.0]), draw.choice([0, 1])
        paid = [weight * r["correct"] + r["format"] + (r["ok"] / r["calls"] if r["calls"] else 0.0) for r in rows]
        mean = sum(paid) / len(paid)
        spread = math.sqrt(sum((p - mean) ** 2 for p in paid) / (len(paid) - ddof))
        expected = {"reward": paid, "advantage": [(p - mean) / (spread + 1e-8) for p in paid]}
        ok("ARTIST", "math", {"rollouts": rows}, {"answer_weight": weight, "std_ddof": ddof, "eps": 1e-8}, expected)
