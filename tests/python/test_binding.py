"""The Python package: the same numbers and the same errors as the library."""

import gc
import os
import pathlib
import shutil
import subprocess
import threading

import cairn
import numpy as np
import pytest
from conftest import GOLDEN, LINES, ROOT
from safetensors.numpy import load_file

CAIRN = pathlib.Path(os.environ.get("CAIRN", ROOT / "build" / "release" / "cairn"))


@pytest.fixture(scope="module")
def model(model_folder):
    return cairn.Model(model_folder, threads=1)


@pytest.mark.parametrize("name", ["llama", "llama-untied"])
def test_logits_are_those_of_transformers(name):
    expected = load_file(GOLDEN / "models" / name / "expected.safetensors")
    model = cairn.Model(GOLDEN / "models" / name, threads=1)
    logits = model.logits(expected["tokens"])
    assert logits.dtype == np.float32
    assert logits.shape == expected["logits"].shape
    assert np.abs(logits - expected["logits"]).max() < 1e-4


@pytest.mark.parametrize("name", ["t5", "t5-gated"])
def test_an_encoder_decoder_reads_a_source_first(name):
    expected = load_file(GOLDEN / "models" / name / "expected.safetensors")
    model = cairn.Model(GOLDEN / "models" / name, threads=1)
    logits = model.logits(expected["tokens"], source=expected["source"])
    assert np.abs(logits - expected["logits"]).max() < 1e-4
    written, session = [], model.start(source=expected["source"])
    token = model.decoder_start_id
    while len(written) < len(expected["generated"]):
        token = int(session.append([token]).argmax())
        written.append(token)
    assert written == expected["generated"].tolist()
    with pytest.raises(cairn.UsageError, match="source"):
        model.start()


def test_tokens_are_those_of_the_reference_library(model, model_folder):
    from tokenizers import Tokenizer

    reference = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    for text in [*LINES, "", " ", "a  b\r\n\t c", "naïve €½ 数 🙂", "<|endoftext|>", "x" * 300]:
        ids = model.tokenizer.encode(text, parse_special=True)
        assert ids == reference.encode(text).ids
        assert model.tokenizer.decode(ids) == text
        assert model.tokenizer.decode(ids, skip_special=True) == reference.decode(ids)


def test_broken_utf8_decodes_as_in_other_tokenizers(model):
    euro = model.tokenizer.encode("🙂")
    assert model.tokenizer.decode(euro[:1]) == "\ufffd"
    assert model.tokenizer.decode_bytes(euro) == "🙂".encode()


def test_special_tokens_are_letters_unless_asked_for(model):
    assert len(model.tokenizer.encode("<|endoftext|>")) > 1
    assert model.tokenizer.encode("<|endoftext|>", parse_special=True) == [0]
    assert model.tokenizer.eos_id == 0
    assert model.tokenizer.bos_id is None
    assert len(model.tokenizer) == model.vocab_size == 320


@pytest.fixture(scope="module")
def gguf(model_folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("gguf") / "model.gguf"
    subprocess.run([CAIRN, "convert", model_folder, file, "--to", "gguf", "--json"],
                   stdout=subprocess.DEVNULL, check=True)
    return file


def test_a_gguf_file_has_its_own_tokenizer(model, gguf):
    opened = cairn.Model(gguf, threads=1)
    for text in LINES:
        ids = opened.tokenizer.encode(text)
        assert ids == model.tokenizer.encode(text)
        assert opened.tokenizer.decode(ids) == text
    assert opened.tokenizer.eos_id == 0
    made = opened.generate("int main(", max_tokens=12, temperature=0)
    assert made.tokens == model.generate("int main(", max_tokens=12, temperature=0).tokens


def test_weights_stay_as_the_file_has_them(model, gguf, tmp_path):
    narrow = tmp_path / "bf16.gguf"
    subprocess.run([CAIRN, "convert", gguf, narrow, "--to", "gguf", "--type", "bf16", "--json"],
                   stdout=subprocess.DEVNULL, check=True)
    tokens = model.tokenizer.encode(LINES[3])
    wide, bf16, stored = (cairn.Model(narrow, threads=1, precision=precision).logits(tokens)
                          for precision in ("f32", "bf16", "stored"))
    assert np.array_equal(stored, bf16)
    assert not np.array_equal(stored, wide)  # activations are rounded too


def test_a_folder_without_a_tokenizer_gives_logits_only(model, model_folder, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns("tokenizer*"))
    bare = cairn.Model(folder, threads=1)
    assert np.array_equal(bare.logits([1, 2, 3]), model.logits([1, 2, 3]))
    with pytest.raises(cairn.DataError, match="tokenizer.json"):
        bare.tokenizer


def test_a_session_reads_on_and_forgets(model):
    tokens = model.tokenizer.encode("int main(int argc")
    expected = model.logits(tokens)
    session = model.start()
    assert np.allclose(session.append(tokens[:3]), expected[2], atol=1e-4)
    other = session.fork()
    assert np.allclose(session.append(tokens[3:]), expected[-1], atol=1e-4)
    assert session.tokens == tokens
    session.truncate(2)
    assert len(session) == 2
    assert session.room == model.context - 2
    assert np.allclose(session.append(tokens[2:4]), expected[3], atol=1e-4)
    assert np.allclose(other.append([tokens[3]]), expected[3], atol=1e-4)


def test_a_session_keeps_its_model_alive(model_folder):
    session = cairn.Model(model_folder, threads=1).start()
    fork = session.fork()
    del session
    gc.collect()
    assert fork.append([1, 2, 3]).shape == (320,)


def test_greedy_text_follows_the_logits(model):
    prompt = "for (size_t i"
    tokens = model.tokenizer.encode(prompt)
    made = model.generate(prompt, max_tokens=12, temperature=0, ignore_eos=True)
    for token in made.tokens:
        assert token == int(model.logits(tokens)[-1].argmax())
        tokens.append(token)
    assert made.text == model.tokenizer.decode(made.tokens, skip_special=True)
    assert made.reason == "length"
    assert made.prompt_tokens == len(tokens) - 12


def test_a_seed_fixes_the_text(model):
    texts = [model.generate("The", max_tokens=20, seed=seed).tokens for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]


def test_a_list_of_prompts_gives_each_its_own_text(model):
    prompts = ["int main(int a", "int main(void", "x", "int main(int a"]
    for some in (prompts, prompts[:2], []):
        made = model.generate(some, max_tokens=8, seed=3, ignore_eos=True)
        alone = [model.generate(text, max_tokens=8, seed=3, ignore_eos=True) for text in some]
        assert [one.tokens for one in made] == [one.tokens for one in alone]
        assert [one.prompt_tokens for one in made] == [one.prompt_tokens for one in alone]
    with pytest.raises(cairn.Error, match="stream"):
        model.generate(prompts, stream=True)


def test_text_streams_in_whole_characters_and_can_be_ended(model):
    pieces = []
    made = model.generate("x", max_tokens=40, seed=3, ignore_eos=True, stream=pieces.append)
    assert "".join(pieces) == made.text
    short = model.generate("x", max_tokens=40, seed=3, ignore_eos=True, stream=lambda piece: False)
    assert short.reason == "cancelled"
    assert made.text.startswith(short.text)


def test_a_stop_string_ends_the_text(model):
    whole = model.generate("x", max_tokens=40, seed=3, ignore_eos=True).text
    stop = whole[10:13]
    made = model.generate("x", max_tokens=40, seed=3, ignore_eos=True, stop=[stop])
    assert made.reason == "stop"
    assert made.text == whole[: whole.index(stop)]


def test_an_exception_in_the_stream_arrives(model):
    def fail(piece):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        model.generate("x", max_tokens=5, stream=fail)
    assert model.generate("x", max_tokens=5).prompt_tokens == 1


def test_a_stream_may_ask_the_model(model):
    seen = []
    model.generate("x", max_tokens=3, stream=lambda piece: seen.append(model.logits([1]).shape))
    assert all(shape == (1, 320) for shape in seen)


def test_a_text_can_be_iterated_over(model):
    whole = model.generate("x", max_tokens=40, seed=3, ignore_eos=True)
    stream = model.generate("x", max_tokens=40, seed=3, ignore_eos=True, stream=True)
    pieces = []
    for piece in stream:
        pieces.append(piece)
        assert model.logits([1]).shape == (1, 320)
    assert len(pieces) > 1
    assert "".join(pieces) == whole.text == stream.result.text
    assert stream.result.tokens == whole.tokens
    assert list(stream) == []


def test_a_closed_text_ends_and_frees_the_model(model):
    with model.generate("x", max_tokens=200, seed=3, ignore_eos=True, stream=True) as stream:
        first = next(stream)
    assert list(stream) == []
    assert stream.result.text.startswith(first)
    assert stream.result.reason in ("cancelled", "length")
    model.generate("x", max_tokens=200, stream=True)  # dropped unread
    assert model.logits([1]).shape == (1, 320)


def test_a_text_outlives_the_name_of_its_model(model_folder):
    stream = cairn.Model(model_folder, threads=1).generate("x", max_tokens=5, stream=True)
    gc.collect()
    assert isinstance("".join(stream), str)


def test_what_goes_wrong_in_an_iterated_text_arrives(model):
    with pytest.raises(ValueError, match="temperature"):
        list(model.generate("x", temperature=-1, stream=True))
    with pytest.raises(cairn.UsageError, match="at most 256 tokens"):
        list(model.generate("x" * 3000, stream=True))


def test_threads_take_turns(model):
    tokens = model.tokenizer.encode(LINES[0])
    expected = model.logits(tokens)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(model.logits(tokens))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.array_equal(result, expected) for result in results)


def test_bf16_weights_stay_close(model, model_folder):
    tokens = model.tokenizer.encode(LINES[3])
    rounded = cairn.Model(model_folder, threads=1, precision="bf16", cache="bf16").logits(tokens)
    difference = np.abs(rounded - model.logits(tokens)).max()
    assert 0 < difference < 0.5


def test_a_converted_model_gives_the_same_logits(model, model_folder, tmp_path):
    cairn.convert(model_folder, tmp_path)
    tokens = model.tokenizer.encode(LINES[3])
    assert np.array_equal(cairn.Model(tmp_path, threads=1).logits(tokens), model.logits(tokens))


def test_errors_are_python_exceptions_with_the_same_text(model, tmp_path):
    with pytest.raises(cairn.DataError, match="config.json"):
        cairn.Model(tmp_path / "nowhere")
    with pytest.raises(cairn.UsageError, match="at most 256 tokens"):
        model.logits([1] * 257)
    with pytest.raises(ValueError, match="temperature"):
        model.generate("x", temperature=-1)
    with pytest.raises(cairn.DataError, match="0 to 319"):
        model.logits([320])
    with pytest.raises(cairn.UsageError, match="precision"):
        cairn.Model(tmp_path, precision="f7")
    with pytest.raises(cairn.DataError, match="tokenizer.json"):
        cairn.Model(GOLDEN / "models" / "llama", threads=1).generate("x")
    assert issubclass(cairn.DataError, cairn.Error)
    assert not issubclass(cairn.Error, ValueError)


def test_wrong_types_are_type_errors(model):
    with pytest.raises(TypeError):
        model.logits("text")
    with pytest.raises(TypeError):
        model.generate(5)


def test_the_callers_arithmetic_keeps_its_tiny_numbers(model):
    model.generate("x", max_tokens=3)
    assert np.float32(1e-40) * np.float32(1) > 0
