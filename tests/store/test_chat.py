"""Chat JSON lines as different tools write them."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

import workbench
from workbench.store import blob, read, read_report, write
from workbench.trajectory import RecordError


def chat(tmp_path, *records, name="chats.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def user(text="?"):
    return {"role": "user", "content": text}


def bot(text="!", **more):
    return {"role": "assistant", "content": text, **more}


def call(id_="c1", name="search", arguments='{"q": "x"}'):
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(id_="c1", text="found"):
    return {"role": "tool", "tool_call_id": id_, "content": text}


def one(tmp_path, record, **options):
    return read(chat(tmp_path, record), strict=True, **options)[0]


# ------------------------------------------------------------------------------------------------------- turns


def test_each_assistant_message_starts_a_turn(tmp_path):
    said = [
        {"role": "system", "content": "Be brief."},
        user("Where?"),
        bot(None, tool_calls=[call()]),
        result(),
        user("and?"),
        bot("Here."),
        bot("Really."),
        user("Thanks."),
    ]
    t = one(tmp_path, {"messages": said})
    assert [m.role for m in t.prompt] == ["system", "user"]
    assert [[m.role for m in turn.observations] for turn in t.turns] == [["tool", "user"], [], ["user"]]
    assert [turn.action.text for turn in t.turns] == ["", "Here.", "Really."]
    assert t.turns[0].observations[0].answers == t.turns[0].calls[0].id == "c1"
    assert dict(t.turns[0].calls[0].arguments) == {"q": "x"}


def test_a_conversation_without_an_answer_is_all_prompt(tmp_path):
    t = one(tmp_path, {"messages": [user()]})
    assert len(t.prompt) == 1 and t.turns == ()


def test_prompt_and_completion_are_one_conversation(tmp_path):
    t = one(tmp_path, {"prompt": [user("a")], "completion": [bot("b"), user("c"), bot("d")]})
    assert len(t.turns) == 2 and t.text.count("\n\n") == 3


def test_a_bare_list_a_json_array_and_messages_as_text(tmp_path):
    said = [user(), bot("yes")]
    assert read(chat(tmp_path, said))[0].turns[0].action.text == "yes"
    path = tmp_path / "all.json"
    path.write_text(json.dumps([{"messages": said}, {"messages": [user(), bot("no")]}], indent=1))
    assert [t.turns[0].action.text for t in read(path)] == ["yes", "no"]
    path.write_text(json.dumps(said))
    assert read(path)[0].turns[0].action.text == "yes"
    assert one(tmp_path, {"messages": json.dumps(said)}).turns[0].action.text == "yes"


def test_names_are_agents_and_authors(tmp_path):
    said = [user(), bot("plan", name="planner"), {"role": "critic", "content": "no"}, bot("do", name="worker")]
    rollouts = read(chat(tmp_path, {"messages": said}))
    assert [turn.agent for turn in rollouts[0].turns] == ["planner", "worker"]
    critic = rollouts[0].turns[0].observations[0]
    assert (critic.role, critic.author, critic.extra["role"]) == ("user", "critic", "critic")
    assert any("role 'critic' is read as a user message" in note for note in rollouts.notes)


# ------------------------------------------------------------------------------------------------------- calls


def test_two_calls_in_one_turn_answered_in_any_order(tmp_path):
    said = [user(), bot(None, tool_calls=[call("a"), call("b")]), result("b", "2"), result("a", "1")]
    t = one(tmp_path, {"messages": said})
    assert [m.answers for m in t.turns[0].observations] == ["b", "a"]


def test_legacy_function_calls(tmp_path):
    said = [
        user(),
        bot(None, function_call={"name": "f", "arguments": '{"x": 1}'}),
        {"role": "function", "name": "f", "content": "3"},
    ]
    t = one(tmp_path, {"messages": said})
    (made,), (answer,) = t.turns[0].calls, t.turns[0].observations
    assert made.name == "f" and dict(made.arguments) == {"x": 1}
    assert answer.role == "tool" and answer.author == "f" and answer.answers == made.id


@pytest.mark.parametrize(
    ("given", "arguments", "error"),
    [
        ('{"q": 1}', {"q": 1}, None),
        ({"q": 1}, {"q": 1}, None),
        ("", {}, None),
        (None, {}, None),
        ('{"q": ', None, "not JSON"),
        ("[1]", None, "expected named arguments, got list"),
        ('{"q": NaN}', None, "NaN is no JSON value"),
    ],
)
def test_arguments_are_parsed_or_the_error_is_kept(tmp_path, given, arguments, error):
    (made,) = one(tmp_path, {"messages": [user(), bot(None, tool_calls=[call(arguments=given)])]}).turns[0].calls
    assert (made.arguments is None) == (arguments is None)
    if arguments is not None:
        assert dict(made.arguments) == arguments
    else:
        assert error in made.error and made.raw == given


def test_call_ids_used_again_are_told_apart(tmp_path):
    said = [user(), bot(None, tool_calls=[call("call_0")]), result("call_0", "1")]
    said += [bot(None, tool_calls=[call("call_0")]), result("call_0", "2"), result("nobody", "3")]
    rollouts = read(chat(tmp_path, {"messages": said}))
    t = rollouts[0]
    assert [c.id for turn in t.turns for c in turn.calls] == ["call_0", "call_0#2"]
    assert [m.answers for turn in t.turns for m in turn.observations] == ["call_0", "call_0#2", None]
    assert t.turns[1].observations[1].extra["tool_call_id"] == "nobody"
    assert any("answer a call nobody made" in note for note in rollouts.notes)


# ----------------------------------------------------------------------------------------------------- content


def test_images_go_to_the_blobs_and_come_back(tmp_path):
    pixels = b"\x89PNG\r\n\x1a\n not really"
    url = "data:image/png;base64," + base64.b64encode(pixels).decode()
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url, "detail": "low"}}]
    rollouts = read(chat(tmp_path, {"messages": [{"role": "user", "content": parts}, bot()]}), strict=True)
    message = rollouts[0].prompt[0]
    assert message.parts[1].sha256 == hashlib.sha256(pixels).hexdigest() and message.parts[1].mime == "image/png"
    assert message.extra["content[1].image_url.detail"] == "low"
    folder = write(tmp_path / "r", rollouts)
    assert (folder / "blobs" / message.parts[1].sha256).read_bytes() == pixels == blob(message.parts[1].sha256)
    assert url[30:] not in (folder / "trajectories-00000.jsonl").read_text()


def test_sound_and_files_too(tmp_path):
    data = base64.b64encode(b"sound").decode()
    parts = [
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data}"}},
    ]
    message = one(tmp_path, {"messages": [{"role": "user", "content": parts}]}).prompt[0]
    assert [(p.kind, p.mime) for p in message.parts] == [("audio", "audio/wav"), ("file", "application/pdf")]
    assert message.extra["content[1].file.filename"] == "a.pdf"


def test_an_image_that_is_elsewhere_is_named(tmp_path):
    part = {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}
    rollouts = read(chat(tmp_path, {"messages": [{"role": "user", "content": [part]}]}))
    message = rollouts[0].prompt[0]
    assert message.text == "[image_url]" and message.extra["content[0]"]["image_url"]["url"].endswith("x.png")
    assert any("without bytes" in note for note in rollouts.notes)


# ------------------------------------------------------------------------------------------- what stands beside


def test_rewards_groups_and_gold(tmp_path):
    path = chat(
        tmp_path,
        {"messages": [user(), bot()], "reward": 1, "uid": "q1", "answer": "yes"},
        {"messages": [user(), bot()], "score": True, "task_id": 7},
        {"messages": [user(), bot()], "reward": None, "group": "q1"},
    )
    rollouts = read(path)
    assert [t.outcome for t in rollouts] == [1.0, 1.0, None]
    assert [t.group for t in rollouts] == ["q1", "7", "q1"]
    assert dict(rollouts[0].gold) == {"answer": "yes"}
    assert "no reward: outcomes are unknown (trajectory 'chats/3', chats.jsonl, line 3)" in rollouts.notes


def test_the_caller_may_say_what_the_fields_mean(tmp_path):
    record = {"id": "q1", "messages": [user(), bot()], "info": {"acc": 0.5, "ok": 1}, "key": "k"}
    fields = {"outcome": "info.acc", "group": "id", "id": "key"}
    t = one(tmp_path, record, fields=fields)
    assert (t.id, t.group, t.outcome, t.extra["info"]) == ("k", "q1", 0.5, {"acc": 0.5, "ok": 1})
    with pytest.raises(ValueError, match="expected some of .*, got .'reward'."):
        read(chat(tmp_path, record), fields={"reward": "x"})


def test_without_a_group_the_same_prompt_is_one(tmp_path):
    rollouts = read(chat(tmp_path, *({"messages": [user(q), bot(a)]} for q, a in ("xa", "xb", "ya"))))
    assert [len(g) for g in rollouts.groups] == [2, 1]
    assert any("conversations with the same prompt are one group" in note for note in rollouts.notes)


def test_unknown_fields_are_kept_and_named(tmp_path):
    record = {"messages": [user(), bot("x", reasoning_content="hm", refusal=None)], "model_dir": "/m", "lr": 1e-5}
    rollouts = read(chat(tmp_path, record))
    assert dict(rollouts[0].extra) == {"model_dir": "/m", "lr": 1e-5}
    assert dict(rollouts[0].turns[0].action.extra) == {"reasoning_content": "hm"}  # a null says nothing
    assert any("kept in `extra`, not interpreted: lr, model_dir" in note for note in rollouts.notes)
    assert read(write(tmp_path / "r", rollouts)).trajectories == rollouts.trajectories


def test_what_a_message_says_of_its_turn(tmp_path):
    said = [user(), bot("a", reward=0.5, weight=0, finish_reason="stop", model="m"), bot("b", weight=1)]
    turns = one(tmp_path, {"messages": said, "finish_reason": "length", "truncated": True})
    first, second = turns.turns
    assert (first.reward, first.trainable, first.why_not != "", first.stop_reason, first.policy) == (
        *(0.5, False, True),
        *("stop", "m"),
    )
    assert second.trainable and turns.truncated and turns.stop_reason == "length"


# ------------------------------------------------------------------------------------------------------ tokens


def test_prompt_and_sampled_ids_of_each_turn(tmp_path):
    first = bot("a", prompt_token_ids=[1, 2], token_ids=[3, 4], logprobs=[-0.1, -0.2])
    goes_on = bot("b", prompt_token_ids=[1, 2, 3, 4, 5], token_ids=[6], logprobs=[-0.3])
    anew = bot("c", prompt_token_ids=[1, 9], token_ids=[7])
    rollouts = read(chat(tmp_path, {"messages": [user(), first, user(), goes_on, user(), anew]}))
    t = rollouts[0]
    assert [[(s.origin, s.turn, s.ids) for s in q.spans] for q in t.sequences] == [
        [("prompt", -1, (1, 2)), ("sampled", 0, (3, 4)), ("observation", 0, (5,)), ("sampled", 1, (6,))],
        [("prompt", -1, (1, 9)), ("sampled", 2, (7,))],
    ]
    assert t.sampled(0)[0].logprobs == (-0.1, -0.2) and t.sampled(2)[0].logprobs is None
    assert rollouts.batch().token_turn.tolist() == [0, 0, 1, 2]
    assert any("no log-probs" in note for note in rollouts.notes)
    assert not any("no token ids" in note for note in rollouts.notes)


SAID = [user(), bot("a"), user(), bot("b")]


@pytest.mark.parametrize(
    "fields",
    [
        {"input_ids": [1, 2, 3, 4, 5], "loss_mask": [0, 1, 1, 0, 1], "logprobs": [-9, -1, -2, -9, -3]},
        {"input_ids": [1, 2, 3, 4, 5], "loss_mask": [0, 1, 1, 0, 1], "logprobs": [-1, -2, -3]},
        {"prompt_ids": [1], "response_ids": [2, 3, 4, 5], "response_mask": [1, 1, 0, 1], "logprobs": [-1, -2, -9, -3]},
    ],
)
def test_ids_of_the_whole_conversation_with_a_mask(tmp_path, fields):
    t = one(tmp_path, {"messages": SAID, **fields})
    assert [(s.origin, s.turn, s.ids) for s in t.sequences[0].spans] == [
        *(("prompt", -1, (1,)), ("sampled", 0, (2, 3))),
        *(("observation", 0, (4,)), ("sampled", 1, (5,))),
    ]
    assert [s.logprobs for k in (0, 1) for s in t.sampled(k)] == [(-1, -2), (-3,)]
    assert not t.extra


def test_a_mask_that_does_not_fit_the_turns_is_not_guessed_at(tmp_path):
    fields = {"input_ids": [1, 2, 3], "loss_mask": [0, 1, 1]}
    rollouts = read(chat(tmp_path, {"messages": SAID, **fields}))
    assert not rollouts.has_tokens and dict(rollouts[0].extra) == fields  # kept
    assert any("runs of the mask of sampled tokens are not as many" in note for note in rollouts.notes)
    assert any(note.startswith("no token ids: token credit and training unavailable") for note in rollouts.notes)
    more = {"input_ids": [1, 2, 3, 4, 5], "loss_mask": [1, 0, 1, 0, 1]}
    assert not read(chat(tmp_path, {"messages": SAID, **more})).has_tokens
    rollouts = read(chat(tmp_path, {"messages": SAID, "input_ids": [1, 2]}))
    assert rollouts[0].extra["input_ids"] == [1, 2]
    assert any("do not say which tokens were sampled" in note for note in rollouts.notes)


def test_a_turn_of_weight_0_has_no_run_in_the_mask(tmp_path):
    said = [user(), bot("shown", weight=0), user(), bot("own")]
    t = one(tmp_path, {"messages": said, "input_ids": [1, 2, 3], "loss_mask": [0, 0, 1]})
    assert t.sampled(0) == () and t.sampled(1)[0].ids == (3,)


def test_token_texts_without_ids_are_kept(tmp_path):
    probs = {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": []}]}
    t = one(tmp_path, {"messages": [user(), bot("a", logprobs=probs)]})
    assert not t.has_tokens and t.turns[0].extra["logprobs"] == probs


# ---------------------------------------------------------------------------------------------------- not chat


def test_what_we_do_not_know_says_what_was_tried_and_found(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    with pytest.raises(ValueError) as caught:
        workbench.read(path)
    for part in ("chat JSON lines: its record 1 has no `messages`; it has ['chosen', 'prompt', 'rejected']",):
        assert part in str(caught.value)
    for part in ("a folder of the workbench: not a folder", "TRL completions", 'starts with b\'{"prompt"'):
        assert part in str(caught.value)
    for content in (b"", b"\x00\x01\x02", b"hello\n", b"[]", b"[1, 2]\n", b'"x"\n'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a file of rollouts"):
            read(path)
    with pytest.raises(ValueError, match="it is a folder with .'x.jsonl'."):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing is there"):
        read(tmp_path / "gone")


def test_a_name_like_ours_does_not_hide_a_chat_file(tmp_path):
    assert read(chat(tmp_path, {"messages": SAID}, name="trajectories.jsonl"))[0].turns[0].action.text == "a"
    with pytest.raises(ValueError, match="a folder of the workbench: no manifest.json"):
        read(tmp_path)


def test_wrong_messages_name_their_place(tmp_path):
    wrong = {
        "expected an object with role and content, got str": [user(), "hi"],
        "expected a role, got None": [user(), {"content": "x"}],
        "expected text or a list of parts, got int": [user(3)],
        "without `content`, tool calls or tokens": [user(), {"role": "assistant"}],
        "role 'user' makes no calls": [{**user(), "tool_calls": [call()]}],
        "the data URL is not base64": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}}]}
        ],
    }
    good = {"messages": [user(), bot()]}
    for problem, said in wrong.items():
        path = chat(tmp_path, good, {"id": "bad", "messages": said}, good)
        report = read_report(path)
        assert report.good == 2 and len(report.problems) == 1
        (found,) = report.problems
        assert (found.line, found.id) == (2, "bad") and problem in found.problem and "messages[" in found.problem
        with pytest.raises(RecordError, match="line 2") as caught:
            read(path, strict=True)
        assert caught.value.trajectory == "bad"
