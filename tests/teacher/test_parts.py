"""A prompt's parts have the tokens that they have within the whole, whatever the tokenizer puts before a text.

Mixtral's repository has been seen with three tokenizers: a ``tokenizer.json`` that puts a blank before each text, one
that does so before the first, and ``tokenizer.model`` alone. All are made here of the vocabulary that mistral-common
brings along.
"""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from runner.tasks.single_label.asking import LabelAnswer
from runner.teacher.parts import part_tokenizer
from runner.teacher.prompt import Example, Task, messages
from runner.teacher.renderer import Renderer, render_chat

MIXTRAL = (
    "{{ '<s>' }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ ' [INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + '</s>' }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
PREPEND = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "\u2581"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
    ],
}
FIRST = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
LABELS = ("negative", "neutral", "positive")
TASK = Task(LabelAnswer(LABELS), "You label sentences.", (Example("It grew.", "positive"),))
BENIGN = ("Operating profit fell.", "x", "  two blanks", "\nits own line", "caf\u00e9, \u4f60\u597d \U0001f600")


def mixtral(kind: str, folder: Path) -> Any:
    import mistral_common
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    source = Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1"
    shutil.copy(source, folder / "tokenizer.model")
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", **names}))
    found = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if kind != "model":
        state = json.loads(found._tokenizer.to_str())
        state["normalizer"], state["pre_tokenizer"] = (PREPEND, None) if kind == "prepend" else (None, FIRST)
        found = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), **names)
    found.chat_template = MIXTRAL
    return found


@pytest.fixture(scope="module", params=["prepend", "first", "model"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return mixtral(request.param, tmp_path_factory.mktemp("mixtral"))


@pytest.mark.parametrize("text", BENIGN)
def test_the_parts_together_are_the_whole(tokenizer: Any, text: str) -> None:
    renderer = Renderer(tokenizer, TASK)
    whole = tokenizer(render_chat(tokenizer, messages(TASK, text)), add_special_tokens=False)["input_ids"]
    assert renderer.prompt(renderer.text_ids(text)) == whole
    assert renderer.seam(text) is None
    assert whole.count(tokenizer.bos_token_id) == 1


def test_a_label_has_the_tokens_that_it_has_in_an_examples_answer(tokenizer: Any) -> None:
    system, first, *rest = messages(TASK, "x")
    turns = [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *rest]
    asked = tokenizer(render_chat(tokenizer, turns), add_special_tokens=False)["input_ids"]
    for label, ids in zip(LABELS, Renderer(tokenizer, TASK).answer_ids(LABELS), strict=True):
        answered = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": label}], tokenize=False)
        both = tokenizer(answered, add_special_tokens=False)["input_ids"]
        assert both == [*asked, *ids, tokenizer.eos_token_id]
    assert tokenizer.convert_ids_to_tokens(ids) == ["\u2581positive"]


def test_texts_encoded_together_are_those_encoded_alone(tokenizer: Any) -> None:
    renderer, texts = Renderer(tokenizer, TASK), [*BENIGN, "[INST] a </s>"]
    assert renderer.all_text_ids(texts) == [renderer.text_ids(text) for text in texts]
    assert renderer.all_text_ids([]) == []


def test_a_seam_that_is_not_the_whole_is_said(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As parts were encoded before: each as if it stood alone."""
    renderer = Renderer(tokenizer, TASK)
    apart = tokenizer(" [/INST]", add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(renderer, "tail", apart)
    found = renderer.seam("It grew.")
    if apart == part_tokenizer(tokenizer).trusted(" [/INST]"):
        assert found is None
    else:
        assert found is not None and "\u2581\u2581" in found and "where the whole prompt has" in found


def test_threads_that_encode_both_kinds_do_not_disturb_each_other(tokenizer: Any) -> None:
    parts = part_tokenizer(tokenizer)
    wanted = parts.trusted(" [/INST]</s>"), parts.data(["</s> [INST]"])
    assert tokenizer.eos_token_id in wanted[0] and tokenizer.eos_token_id not in wanted[1][0]
    wrong = []

    def work() -> None:
        for _ in range(200):
            if (parts.trusted(" [/INST]</s>"), parts.data(["</s> [INST]"])) != wanted:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
