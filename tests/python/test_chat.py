"""`cairn chat` as people and scripts use it: through a pipe, and on a pseudo-terminal.

    CAIRN=build/release/cairn pytest tests/python/test_chat.py
"""

import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import termios
import time

import pytest
from conftest import copy_with_context

ROOT = pathlib.Path(__file__).resolve().parents[2]
CAIRN = pathlib.Path(os.environ.get("CAIRN", ROOT / "build" / "release" / "cairn"))
if not CAIRN.exists():
    pytest.skip(f"no program at {CAIRN}: build it or set CAIRN", allow_module_level=True)

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
PROMPT = "> "  # answers of the tests hold letters only
PATIENCE = 60  # seconds; a loaded machine is no failure


@pytest.fixture(scope="module")
def chat_model(model_folder):
    (model_folder / "chat_template.jinja").write_text(TEMPLATE)
    yield model_folder
    (model_folder / "chat_template.jinja").unlink()


@pytest.fixture(scope="module")
def patient_model(chat_model, tmp_path_factory):
    """The same with so much context that an answer takes longer than anyone waits."""
    folder = tmp_path_factory.mktemp("patient") / "model"
    return copy_with_context(chat_model, folder, 200_000)


def only_letters(model):
    """Biases that keep a random model from saying bytes that are no UTF-8, and its end."""
    vocabulary = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    return [f"--logit-bias={number}=-inf" for spelling, number in vocabulary.items()
            if not re.fullmatch("[A-Za-z]+", spelling)]


def pipe(model, text, *arguments, code=0):
    settings = {"-n": "8", "--seed": "3", "--threads": "1"}
    own = [word for name, value in settings.items() if name not in arguments
           for word in (name, value)]
    done = subprocess.run(
        [CAIRN, "chat", model, *only_letters(model), *own, *arguments],
        input=text.encode(), capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == code, done.stderr.decode()
    return done


def answers(model, text, *arguments):
    lines = pipe(model, text, "--json", *arguments).stdout.decode().splitlines()
    return [json.loads(line) for line in lines]


def test_a_pipe_gives_an_answer_a_message(chat_model):
    first, second = answers(chat_model, "Hello\nAnd more?\n")
    assert first["role"] == "assistant" and first["tokens"] == 8
    assert first["cached_tokens"] == 0
    assert second["cached_tokens"] >= first["prompt_tokens"]
    plain = pipe(chat_model, "Hello\nAnd more?\n").stdout.decode()
    assert plain == first["content"] + "\n" + second["content"] + "\n"
    assert "\x1b" not in plain


def test_the_last_line_needs_no_end(chat_model):
    assert answers(chat_model, "Hello") == answers(chat_model, "Hello\n")


def test_lines_are_joined(chat_model):
    joined = answers(chat_model, "one\\\ntwo\n")
    assert len(joined) == 1
    assert answers(chat_model, '"""one\ntwo"""\n') == joined
    assert answers(chat_model, '"""\none\ntwo\n"""\n') == joined


def test_commands_change_the_conversation(chat_model, tmp_path):
    saved = tmp_path / "talk.json"
    first, other, back = answers(chat_model, "Hi\n/regenerate\n/undo\nHi\n")
    assert other["content"] != first["content"]
    assert back["content"] == first["content"]
    pipe(chat_model, f"/system Be brief.\nHi\n/save {saved}\n")
    messages = json.loads(saved.read_text())["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant"]
    more, = answers(chat_model, "And?\n", "--load", saved)
    assert more["prompt_tokens"] > first["prompt_tokens"]
    fresh, = answers(chat_model, f"/load {saved}\n/reset\nHi\n")
    assert fresh["prompt_tokens"] > first["prompt_tokens"]  # the system message stays
    short, = answers(chat_model, "/set max_tokens 2\nHi\n")
    assert short["tokens"] == 2
    greedy = [answers(chat_model, "/set temperature 0\nHi\n", "--seed", seed)[0]["content"]
              for seed in ("4", "5")]
    assert greedy[0] == greedy[1]
    assert answers(chat_model, "Hi\n/quit\nHi\n") == [first]


def test_a_slash_can_begin_a_message(chat_model):
    assert len(answers(chat_model, "//usr/bin\n")) == 1
    error = pipe(chat_model, "/sav x\n", code=2).stderr.decode()
    assert 'did you mean "save"?' in error
    assert "no setting" in pipe(chat_model, "/set top_q 1\n", code=2).stderr.decode()


def test_the_context_is_never_full_in_silence(chat_model):
    text = "".join(f"message number {i}\n" for i in range(9))
    forgotten = [a["forgotten_messages"] for a in answers(chat_model, text, "--context", "120")]
    assert sum(forgotten) > 0
    log = pipe(chat_model, text, "--context", "120").stderr.decode()
    assert "oldest messages are forgotten" in log
    error = pipe(chat_model, text, "--context", "120", "--overflow", "refuse", code=2)
    assert "the context" in error.stderr.decode()


IUTF8 = 0o40000  # an input flag of Linux that `termios` has no name for


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *command):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            # As terminals are: what is typed ahead is erased by characters, not by bytes.
            attributes = termios.tcgetattr(0)
            attributes[0] |= IUTF8
            termios.tcsetattr(0, termios.TCSANOW, attributes)
            os.environ.update(TERM="xterm", LC_ALL="C.UTF-8", NO_COLOR="")
            os.execv(CAIRN, ["cairn", *map(str, command)])
        self.seen = ""

    def type(self, text):
        os.write(self.master, text.encode())

    def wait_for(self, pattern):
        """Reads until the pattern appears behind what was waited for before."""
        end = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.seen)) is None:
            assert time.monotonic() < end, f"no {pattern!r} in {self.seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 4096).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"ended; no {pattern!r} in {self.seen!r}") from None
        before, self.seen = self.seen[:found.end()], self.seen[found.end():]
        return before

    def code(self):
        """Waits for the end, reading what is left."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    os.read(self.master, 4096)
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.master)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError(f"does not end; last seen {self.seen!r}")


@pytest.fixture
def terminal(chat_model):
    return Terminal("chat", chat_model, "--threads", "1", "-n", "6", "--seed", "3",
                    *only_letters(chat_model))


def test_a_terminal_has_a_prompt_colours_and_ends_with_ctrl_d(terminal):
    terminal.wait_for(PROMPT)
    terminal.type("Hi\r")
    shown = terminal.wait_for(r"cut after 6 tokens.*\n[^\n]*" + PROMPT)
    assert "\x1b[" in shown
    terminal.type("\x04")
    assert terminal.code() == 0


def test_a_ctrl_d_that_is_typed_ahead_ends_the_chat(terminal):
    terminal.wait_for(PROMPT)
    terminal.type("Hi\r\x04")
    assert terminal.code() == 0


def test_lines_are_edited_and_come_back(terminal, tmp_path):
    terminal.wait_for(PROMPT)
    terminal.type("Helo\x02l\r")  # Ctrl-B goes one back
    terminal.wait_for(r"cut after")
    terminal.wait_for(PROMPT)
    terminal.type("ü\x7f")  # a character of two bytes goes whole
    terminal.type("\x10\r")  # Ctrl-P: the line before
    terminal.wait_for(r"cut after")
    terminal.wait_for(PROMPT)
    terminal.type(f"/save {tmp_path}/talk.json\r")
    terminal.wait_for("saved to")
    terminal.type("\x04")
    assert terminal.code() == 0
    said = [m["content"] for m in json.loads((tmp_path / "talk.json").read_text())["messages"]
            if m["role"] == "user"]
    assert said == ["Hello", "Hello"]


def test_ctrl_c_stops_the_answer_and_keeps_the_session(patient_model, tmp_path):
    terminal = Terminal("chat", patient_model, "--threads", "1", *only_letters(patient_model))
    terminal.wait_for(PROMPT)
    terminal.type("half a line\x03")  # takes the line back
    terminal.wait_for(PROMPT)
    terminal.type("go\r")
    terminal.wait_for("go\r?\n[^\n]*[^\n ]{3}")  # the answer has begun
    terminal.type("\x03")
    terminal.wait_for(r"\[stopped\]")
    terminal.wait_for(PROMPT)
    terminal.type("/set max_tokens 5\rmore\r")
    terminal.wait_for("cut after 5 tokens")
    terminal.wait_for(PROMPT)
    terminal.type(f"/save {tmp_path}/talk.json\r")
    terminal.wait_for("saved to")
    terminal.type("/quit\r")
    assert terminal.code() == 0
    messages = json.loads((tmp_path / "talk.json").read_text())["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant"] * 2
    assert messages[0]["content"] == "go"  # nothing is left of the half line
    assert messages[1]["content"] != ""


def test_errors_do_not_end_a_session_on_a_terminal(terminal):
    terminal.wait_for(PROMPT)
    terminal.type("/nonsense\r")
    terminal.wait_for("error: ")
    terminal.wait_for(PROMPT)
    terminal.type("/quit\r")
    assert terminal.code() == 0
