"""Chat templates beside Python's jinja2 with the settings of transformers, live.

    CAIRN=build/release/cairn pytest tests/python/test_chat_parity.py

Needs jinja2 (Debian's python3-jinja2). Templates and conversations are those of the script that makes
the golden files, with other random conversations.
"""

import json
import os
import pathlib
import random
import subprocess
import sys

import pytest

pytest.importorskip("jinja2")

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
CAIRN = pathlib.Path(os.environ.get("CAIRN", ROOT / "build" / "release" / "cairn"))
if not CAIRN.exists():
    pytest.skip(f"no program at {CAIRN}: build it or set CAIRN", allow_module_level=True)

sys.path.insert(0, str(GOLDEN))
import make_chat_golden as chat  # noqa: E402

EACH = 75  # conversations a template: more than 500 in all


def ours(folder, conversation):
    """The text, or "error"."""
    done = subprocess.run([CAIRN, "tokenizer", "encode", folder, "--chat", "--json"],
                          input=json.dumps(conversation).encode(), capture_output=True, check=False)
    if done.returncode != 0:
        assert done.returncode == 3, done.stderr.decode()
        return {"error": True}
    return {"text": json.loads(done.stdout)["text"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("chat")
    (made / "tokenizer.json").write_bytes((GOLDEN / "tokenizer" / "metaspace.json").read_bytes())
    (made / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    return made


@pytest.mark.parametrize("name", chat.TEMPLATES)
def test_conversations_render_as_in_python(name, folder):
    (folder / "chat_template.jinja").write_text(chat.TEMPLATES[name])
    choose = random.Random(f"live {name}")
    for _ in range(EACH):
        conversation = chat.conversation(choose)
        expected = chat.render(chat.TEMPLATES[name], conversation)
        assert ours(folder, conversation) == expected, json.dumps(conversation)
