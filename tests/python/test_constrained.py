"""What a random model says under a schema or grammar, judged by others: Debian's python3-jsonschema
and Python's own regular expressions.

    CAIRN=build/release/cairn pytest tests/python/test_constrained.py
"""

import json
import os
import pathlib
import re
import subprocess

import pytest
from conftest import copy_with_context

jsonschema = pytest.importorskip("jsonschema")

ROOT = pathlib.Path(__file__).resolve().parents[2]
CAIRN = pathlib.Path(os.environ.get("CAIRN", ROOT / "build" / "release" / "cairn"))
if not CAIRN.exists():
    pytest.skip(f"no program at {CAIRN}: build it or set CAIRN", allow_module_level=True)

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer", "minimum": -3, "maximum": 17},
                "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "right": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]},
            },
            "required": ["value", "left"],
            "additionalProperties": False,
        }
    },
}
SCHEMAS = {
    "person": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 150},
            "email": {"type": "string", "pattern": "^[a-z]{1,8}@[a-z]+\\.(com|org)$"},
            "tags": {"type": "array", "items": {"enum": ["a", "b", None, 1.5]}, "maxItems": 3},
        },
        "required": ["name", "email"],
        "additionalProperties": False,
    },
    "numbers": {
        "type": "array",
        "prefixItems": [
            {"type": "number", "minimum": -0.5, "maximum": 0.25},
            {"type": "number", "exclusiveMinimum": 99.9},
            {"type": "integer", "maximum": -1000},
            {"type": ["number", "null"]},
        ],
        "items": {"type": "integer", "minimum": 95, "maximum": 1203},
        "minItems": 3,
        "maxItems": 6,
    },
    "tree": TREE,
    "any": {"type": "object", "maxProperties": None},
    "mapping": {
        "type": "object",
        "properties": {"ab": {"const": 1}, "abc": {"type": "boolean"}, "é": {"type": "null"}},
        "additionalProperties": {"type": "string", "maxLength": 2},
    },
    "union": {
        "oneOf": [
            {"type": "object", "properties": {"kind": {"const": "circle"}, "r": {"type": "number"}},
             "required": ["kind", "r"]},
            {"type": "object", "properties": {"kind": {"enum": ["square", "cube"]}},
             "required": ["kind"]},
            {"type": "boolean"},
        ]
    },
    "joined": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a", "b"]},
            {"properties": {"a": {"type": "integer", "minimum": 5},
                            "b": {"type": ["string", "integer"], "maxLength": 1, "maximum": 9}}},
        ]
    },
    "pattern": {"type": "string", "pattern": "^x[0-9]{2}$|^[^a-z\"]\\\\?$"},
    "times": {
        "type": "array", "minItems": 4, "maxItems": 4,
        "prefixItems": [{"format": name, "type": "string"}
                        for name in ("date", "date-time", "uuid", "ipv4")],
    },
    "nested": {"type": "array", "items": {"type": "array", "items": {"type": "boolean"},
                                          "minItems": 1}, "minItems": 1, "maxItems": 4},
}
del SCHEMAS["any"]["maxProperties"]


@pytest.fixture(scope="module")
def long_model(model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("constrained") / "model"
    return copy_with_context(model_folder, folder, 4096)


def generate(model, seed, *arguments, tokens=1500, code=0):
    done = subprocess.run(
        [CAIRN, "run", model, "-p", "int main", "--json", "--threads", "1", "--seed", str(seed),
         "-n", str(tokens), "--temperature", "2", "--top-k", "0", "--top-p", "1", "--min-p", "0",
         *map(str, arguments)],
        capture_output=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr.decode()
    return json.loads(done.stdout) if code == 0 else done.stderr.decode()


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_generated_satisfies_the_schema(name, long_model, tmp_path):
    schema = SCHEMAS[name]
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    whole, texts = 0, set()
    for seed in range(6):
        result = generate(long_model, seed, "--json-schema", file)
        if result["reason"] not in ("eos", "complete"):
            continue  # a random model may talk for long
        validator.validate(json.loads(result["text"]))
        whole += 1
        texts.add(result["text"])
    assert whole >= 2
    assert len(texts) >= 2, "the model has a choice"


def test_a_grammar_holds_and_proposals_change_nothing(long_model, tmp_path):
    file = tmp_path / "list.gbnf"
    file.write_text('root ::= item ("," item)*\nitem ::= [a-c]{2} "é"? | "(" root ")"  # nested\n')
    for seed in range(4):
        plain = generate(long_model, seed, "--grammar", file)
        text = plain["text"]
        if plain["reason"] in ("eos", "complete"):
            while (inner := re.sub(r"\((?:[a-c]{2}é?)(?:,[a-c]{2}é?)*\)", "aa", text)) != text:
                text = inner
            assert re.fullmatch(r"[a-c]{2}é?(,[a-c]{2}é?)*", text), plain["text"]
        fast = generate(long_model, seed, "--grammar", file, "--lookup")
        assert fast["tokens"] == plain["tokens"]


def test_files_that_are_not_understood_are_refused_by_place(long_model, tmp_path):
    bad = tmp_path / "bad"
    bad.write_text('root ::= "a\n')
    assert "line 1, column 10" in generate(long_model, 0, "--grammar", bad, code=3)
    bad.write_text('{"properties": {"a": {"not": {}}}}')
    assert "properties.a.not" in generate(long_model, 0, "--json-schema", bad, code=3)


def test_log_probabilities_are_those_of_the_logits(long_model):
    result = generate(long_model, 3, "--logprobs", 4, tokens=5)
    assert len(result["logprobs"]) == len(result["tokens"]) == 5
    for token, number in zip(result["logprobs"], result["tokens"]):
        assert token["id"] == number
        values = [other["logprob"] for other in token["top"]]
        assert len(values) == 4 and values == sorted(values, reverse=True)
        assert token["logprob"] <= values[0] <= 0


def test_a_conversation_can_be_held_to_a_schema(long_model, tmp_path):
    (long_model / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    file = tmp_path / "schema.json"
    file.write_text('{"type": "array", "items": {"type": "boolean"}, "maxItems": 2}')
    done = subprocess.run([CAIRN, "chat", long_model, "--json", "--json-schema", file],
                          input=b"one\ntwo\n", capture_output=True, timeout=120, check=True)
    for line in done.stdout.decode().splitlines():
        answer = json.loads(line)
        assert answer["reason"] in ("eos", "complete")
        assert all(isinstance(item, bool) for item in json.loads(answer["content"]))
