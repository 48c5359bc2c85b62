"""Write chat.jsonl: some stored rollouts as OpenAI messages, the way many tools log conversations.

python datasets/examples/make.py
"""

import json
from pathlib import Path

import workbench

HERE = Path(__file__).resolve().parent


def as_openai(message):
    """One message in OpenAI's form."""
    out = {"role": message.role, "content": message.text}
    if message.calls:
        calls = [(call, call.arguments or {}) for call in message.calls]
        out["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(dict(a))}}
            for c, a in calls
        ]
    if message.answers:
        out["tool_call_id"] = message.answers
    return out


def main():
    rollouts = workbench.read(HERE.parent / "start")
    lines = [
        {"messages": [as_openai(m) for m in t.messages], "reward": t.outcome, "group": t.group, "model": "smollm2"}
        for group in rollouts.groups[:3]
        for t in group
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (HERE / "chat.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
