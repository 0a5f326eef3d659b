"""The cards: what the Hub's own tools read in them, and that no text from specs or data breaks out of its place."""

import re
from dataclasses import replace

import pytest
from huggingface_hub import DatasetCard, ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from runner.models import catalog, origin
from runner.publish.cards import build_cards, data_card, model_card
from runner.publish.cards.markdown import EMPTY, block, code, prose
from runner.report.gather import gather
from runner.report.summary import summarise
from runner.report.text import flat
from runner.system.sanitize import clean

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
SPECIAL = "`|\\*_#-+=>~[]()!<>&$:/.,1 \n\t\"'@\u2028\u202e\u00e9" + "a"
hostile_text = st.one_of(
    st.text(SPECIAL, max_size=40),
    st.text(max_size=40),
    st.sampled_from(
        [
            "```\n# out\n```",
            "---\nlicense: mit\n---",
            "<script>alert(1)</script>",
            "| a | b |\n|---|---|",
            "{{ 7 * 7 }}{% raw %}",
            "[x](javascript:alert(1))",
            "a\\|b\\",
            "&#60;b&#62; &amp;",
            "~~~~\nx",
            "1. one\n2) two",
            "https://evil.example www.evil.example",
            "$$x$$ ![](http://evil.example/x.png)",
        ]
    ),
)


def card_of(run):
    found = gather(run.read, run.exists)
    return build_cards(found, summarise(found))


def known(name):
    return f"catalog:{name}@sha256:{catalog.load().models[name].weights.sha256}"


@pytest.fixture
def run(folder):
    """A run whose stages noted which models they used."""
    made = folder()
    made.summaries["label"]["identity"] = known("qwen2.5-coder-1.5b-instruct")
    made.summaries["train"]["identity"] = known("all-minilm-l6-v2")
    made.info["spec"]["task"].update(
        instructions="Say how an investor feels.",
        examples=[{"text": "Sales doubled.", "label": "positive", "reason": "More sales."}],
    )
    made.info["spec"]["teacher"] = {"prompt": "direct", "votes": 1, "also": []}
    return made


def inline(markdown):
    """The inline tokens of one paragraph."""
    blocks = MARKDOWN.parse(markdown)
    assert [token.type for token in blocks] == ["paragraph_open", "inline", "paragraph_close"], blocks
    return blocks[1].children


def words_of(tokens):
    assert {token.type for token in tokens} <= {"text", "text_special", "code_inline"}, tokens
    return "".join(token.content for token in tokens)


@given(hostile_text)
def test_code_holds_what_it_was_given(said):
    assert words_of(inline(f"x {code(said)} y")) == f"x {flat(said) or EMPTY} y"


@given(hostile_text, hostile_text)
def test_a_cell_of_a_table_stays_one(first, second):
    blocks = MARKDOWN.parse(f"| a | b | c |\n|---|---|---|\n| {code(first)} | {prose(second)} | end |\n\nafter")
    assert [token.type for token in blocks if token.level == 0][:2] == ["table_open", "table_close"]
    cells = [token for token in blocks if token.type == "inline"]
    assert len(cells) == 7
    assert words_of(cells[3].children) == (flat(first) or EMPTY)
    assert words_of(cells[4].children).replace("\u2060", "") == flat(second).replace("\u2060", "")
    assert [cell.content for cell in cells[5:]] == ["end", "after"]


@given(hostile_text)
def test_a_sentence_means_nothing_but_its_words(said):
    if flat(said):
        assert words_of(inline(prose(said))).replace("\u2060", "") == flat(said).replace("\u2060", "")


def test_an_address_in_a_sentence_is_no_link():
    found = MarkdownIt("commonmark", {"html": True}).parse(prose("see https://evil.example and www.evil.example"))
    assert "://" not in found[1].content and "www.evil" not in found[1].content


@given(hostile_text)
def test_a_block_ends_where_it_ends(said):
    blocks = MARKDOWN.parse(f"before\n\n{block(said)}\n\nafter")
    assert [token.type for token in blocks][3:-3] == ["fence"]
    assert blocks[3].content.removesuffix("\n") == clean(said).strip("\n")


def headings(text):
    blocks = MARKDOWN.parse(text)
    assert not [token for token in blocks if token.type == "html_block"]
    inside = [child for token in blocks for child in token.children or ()]
    assert not {child.type for child in inside} & {"html_inline", "link_open", "image"}
    return [blocks[k + 1].content for k, token in enumerate(blocks) if token.type == "heading_open"]


MODEL_HEADINGS = [
    *("What it decides", "How to load it", "Results", "Training data", "Teacher", "Licences"),
    *("Intended use", "Limits", "How it was made"),
]
DATA_HEADINGS = [
    *("Columns", "Counts", "How the labels came about", "How far they can be trusted", "What was left out", "Licence"),
]


@pytest.fixture(scope="module")
def read_once(run_folder, tmp_path_factory):
    run = run_folder(tmp_path_factory.mktemp("cards") / "run").write()
    return gather(run.read, run.exists)


@pytest.mark.slow("long")
@settings(max_examples=50)
@given(
    st.lists(hostile_text, min_size=6, max_size=6),
    st.lists(hostile_text, min_size=3, max_size=3, unique=True),
    st.text(min_size=1, max_size=30),
)
def test_whatever_stands_in_spec_and_data_the_card_keeps_its_form(read_once, said, labels, name):
    summaries = read_once.summaries
    label = {**summaries["label"], "model": said[0], "failures_by_reason": {said[1]: 2}, "licence": said[2]}
    train = {**summaries["train"], "identity": f"hub:{said[3]}@main", "licence": said[4], "model": said[3]}
    task = {"labels": labels, "instructions": said[5]}
    task["examples"] = [{"text": said[0], "label": said[1], "reason": ""}]
    info = {
        **read_once.info,
        "name": name,
        "spec": {"task": task, "data": {"train": {"format": "hub", "path": said[1]}}},
    }
    evaluation = {**read_once.evaluation, "labels": labels}
    for who in ("teacher", "student"):
        per_class = evaluation[who]["per_class"].values()
        evaluation[who] = {**evaluation[who], "per_class": dict(zip(labels, per_class, strict=True))}
    hostile = replace(
        read_once, info=info, summaries={**summaries, "label": label, "train": train}, evaluation=evaluation
    )
    report = summarise(hostile)
    model = ModelCard(model_card(hostile, report, said[2], said[3] or None))
    assert model.data.to_dict().keys() >= {"license", "library_name", "pipeline_tag"}
    assert model.data.model_name == flat(name)
    assert headings(model.text)[1:] == MODEL_HEADINGS
    data = DatasetCard(data_card(hostile, report))
    assert (data.data.license, data.data.pretty_name) == ("unknown", flat(name))
    assert headings(data.text)[1:] == DATA_HEADINGS


def test_the_hubs_tools_read_the_model_card(run):
    run.write()
    content = card_of(run)["cards/model.md"]
    card = ModelCard(content)
    assert str(card).split("\n---\n", 1)[1] == content.split("\n---\n", 1)[1]
    assert (
        card.data.to_dict().items()
        >= {
            "library_name": "transformers",
            "pipeline_tag": "text-classification",
            "license": "apache-2.0",
            "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        }.items()
    )
    student = run.evaluation["student"]
    found = {(one.metric_type, one.metric_value) for one in card.data.eval_results}
    assert found == {("accuracy", round(student["accuracy"], 4)), ("f1", round(student["macro_f1"], 4))}
    assert not [one for one in card.data.eval_results if one.verified]


def test_the_model_card_says_it_all(run):
    text = card_of(run.write())["cards/model.md"]
    low, high = run.evaluation["student"]["ci95"]["accuracy"]
    for said in (
        f"{100 * low:.1f} to {100 * high:.1f} %",
        "McNemar p",
        "Say how an investor feels.",
        "TEXT: Sales doubled.",
        "TEXT: [the text]",
        "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF on the Hugging Face Hub, pinned by the SHA-256",
        "Licence: Apache-2.0",
        "| train rows dropped | `duplicate` | 3 |",
        "298 texts, and 30 more that were held out",
        "Out of scope",
        "It says nothing about other seeds",
    ):
        assert said in text
    precision = run.evaluation["student"]["per_class"]["neutral"]["precision"]
    assert re.search(rf"\| `neutral` \| \d+ \| {100 * precision:.1f} % \|", text)


def test_the_data_card_tells_the_teachers_labels_from_the_experts(run):
    text = card_of(run.write())["cards/data.md"]
    given = run.votes["label"]
    support = run.evaluation["teacher"]["per_class"]
    for name in run.labels:
        assert f"| `{name}` | {given.count(name)} | {support[name]['support']} |" in text
    assert f"| none: the teacher abstained (not in this data set) | {given.count(None)} | 0 |" in text
    assert "No label in this data set was given by a person." in text
    assert "may hold personal data" in text
    assert "Not known: the texts are yours" in text
    card = DatasetCard(text)
    assert card.data.license == "unknown" and card.data.annotations_creators == ["machine-generated"]
    assert card.data.configs[0]["data_files"] == [{"split": "train", "path": "data/train.parquet"}]


def test_recorded_votes_are_not_said_to_be_a_models(run):
    run.recorded().summaries["label"].update(model="three people", identity=None)
    cards = card_of(run.write())
    assert "No label in this data set was given by a person" not in cards["cards/data.md"]
    assert "large language model" not in cards["cards/data.md"] + cards["cards/model.md"]
    assert "`three people`: the name is what the spec says" in cards["cards/data.md"]
    assert "the prompt is not known here" in cards["cards/model.md"]
    assert DatasetCard(cards["cards/data.md"]).data.annotations_creators == ["found"]


def test_a_recorded_model_that_the_catalog_knows_has_its_licence(run):
    run.recorded().summaries["label"].update(model="mistralai/Mixtral-8x7B-Instruct-v0.1", identity=None)
    text = card_of(run.write())["cards/model.md"]
    assert "`mistralai/Mixtral-8x7B-Instruct-v0.1`: the name is what the spec says" in text
    assert "Licence: Apache-2.0. Asked: not in this run" in text


def test_older_runs_noted_names_only(folder):
    text = card_of(folder().write())["cards/model.md"]
    assert ModelCard(text).data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF on the Hugging Face Hub, by the catalog. Licence: Apache-2.0" in text


def test_what_is_not_known_is_said_to_be_so(folder):
    run = folder()
    run.summaries["label"].update(model="./mine", identity="folder:sha256:0")
    run.summaries["train"].update(model="./mine", identity="folder:sha256:0")
    text = card_of(run.write())["cards/model.md"]
    assert "`./mine`: a local folder. Licence: not known" in text
    card = ModelCard(text)
    assert (card.data.license, card.data.base_model) == ("other", None)
    assert "Licence: not known" in text and "The student's base model: not known." in text


def test_pooled_teachers_are_all_named(run):
    first = dict(run.summaries["label"])
    other = {**first, "model": "org/other", "identity": "hub:org/other@main"}
    run.summaries["label"]["teachers"] = [first, other]
    run.info["spec"]["teacher"]["also"] = [{"model": "org/other", "prompt": "cot", "votes": 3}]
    run.summaries["vote"]["teachers"] = {
        "models": [first["model"], "org/other"],
        "method": "one coin",
        "weights": [0.7, 0.3],
        "krippendorff_alpha": 0.81,
    }
    text = card_of(run.write())["cards/model.md"]
    assert "org/other on the Hugging Face Hub, its main branch at the time. Licence: not known" in text
    assert "up to 3 times for each text" in text
    assert "The prompt (2 of 2)" in text
    assert "Krippendorff's alpha between them is 0.81" in text


def test_examples_from_a_file_are_data_and_not_shown(run):
    run.info["spec"]["task"]["examples"] = {"from": "labelled.csv", "select": "similar", "k": 4}
    text = card_of(run.write())["cards/model.md"]
    assert "4 labelled examples were shown besides, chosen from a file: the nearest to each text" in text
    assert "Sales doubled" not in text


def test_no_text_of_the_data_stands_in_a_card(run):
    cards = card_of(run.write())
    texts = {*run.votes["text"], *run.predictions["text"]}
    assert not [text for text in texts for card in cards.values() if text[:40] in card]


def test_the_same_run_gives_the_same_cards(run):
    run.write()
    assert card_of(run) == card_of(run)


@pytest.mark.parametrize(
    ("identity", "hub", "licence"),
    [
        (known("all-minilm-l6-v2"), "sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0"),
        ("catalog:all-minilm-l6-v2@sha256:" + "0" * 64, None, None),
        ("catalog:gone@sha256:" + "0" * 64, None, None),
        ("catalog:all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0"),
        ("hub:FacebookAI/roberta-base@main", "FacebookAI/roberta-base", "MIT"),
        ("hub:org/unheard-of@v1", "org/unheard-of", None),
        ("folder:sha256:" + "0" * 64, None, None),
        ("", None, None),
        ("nonsense", None, None),
    ],
)
def test_where_a_model_comes_from(identity, hub, licence):
    found = origin(identity)
    assert (found.hub, found.licence) == (hub, licence)
