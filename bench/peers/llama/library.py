"""llama.cpp as a library: logits, tokens and quantised blocks, through the bindings that come with
its source archive."""

import ctypes
import importlib
import os
import pathlib
import subprocess
import sys
import types

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[3]
PEERS = ROOT / ".peers"
BIN = PEERS / "llama.cpp" / "bin"
SMOLLM2 = PEERS / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
THREADS = len(os.sched_getaffinity(0))
BATCH = 512


def build():
    """Builds llama.cpp unless it is there."""
    if subprocess.run(["sh", ROOT / "bench" / "peers" / "llama_cpp.sh"]).returncode != 0:
        sys.exit("llama.cpp cannot be built")


def tool(name, *arguments):
    """Runs one of its programs and returns what it prints."""
    done = subprocess.run([str(BIN / name), *map(str, arguments)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        sys.exit(f"{name} fails:\n{text[-2000:]}")
    return text


def bindings():
    """The module that declares the C functions, without the package around it and its needs."""
    if "llama_cpp" not in sys.modules:
        build()
        package = types.ModuleType("llama_cpp")
        package.__path__ = [str(next(PEERS.glob("llama_cpp_python-*/llama_cpp")))]
        sys.modules["llama_cpp"] = package
        os.environ["LLAMA_CPP_LIB_PATH"] = str(BIN)
    api = importlib.import_module("llama_cpp.llama_cpp")
    if not hasattr(api, "quiet"):
        # Kept alive with the module: the library calls it until the end.
        api.quiet = api.llama_log_callback(lambda level, text, data: None)
        api.llama_log_set(api.quiet, ctypes.c_void_p(0))
        api.llama_backend_init()
    return api


class Model:
    """A GGUF file opened by llama.cpp. `exact`: keys and values in f32, and attention that sums in
    f32 (its flash attention rounds to f16, which moves logits of a 135M model by 0.03)."""

    def __init__(self, path, context=BATCH, exact=False):
        api = self.api = bindings()
        self.model = api.llama_model_load_from_file(
            str(path).encode(), api.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp does not open {path}")
        params = api.llama_context_default_params()
        params.n_ctx = context
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = THREADS
        if exact:
            params.type_k = params.type_v = 0
            params.flash_attn_type = 0
        self.context = api.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit(f"llama.cpp makes no context for {path}")
        self.vocab = api.llama_model_get_vocab(self.model)
        self.vocab_size = api.llama_vocab_n_tokens(self.vocab)
        self.length = 0

    def close(self):
        self.api.llama_free(self.context)
        self.api.llama_model_free(self.model)

    def forget(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        self.length = 0

    def _run(self, call, tokens, first):
        batch = self.api.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i] = int(token), first + i
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, 1
        if call(self.context, batch) != 0:
            sys.exit("llama.cpp does not read the tokens")
        self.api.llama_batch_free(batch)

    def encode(self, source):
        """An encoder-decoder reads its source, once, before tokens are appended."""
        self._run(self.api.llama_encode, source, 0)

    def append(self, tokens):
        """Logits [len(tokens), vocab_size] behind each of the tokens; at most BATCH of them."""
        self._run(self.api.llama_decode, tokens, self.length)
        self.length += len(tokens)
        logits = self.api.llama_get_logits(self.context)
        return np.ctypeslib.as_array(logits, shape=(len(tokens), self.vocab_size)).copy()

    def tokenize(self, text: bytes, special=False):
        return tokenize(self.api, self.vocab, text, special)


class Vocabulary:
    """The tokenizer of a GGUF file alone."""

    def __init__(self, path):
        self.api = bindings()
        params = self.api.llama_model_default_params()
        params.vocab_only = True
        model = self.api.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            sys.exit(f"llama.cpp does not open {path}")
        self.vocab = self.api.llama_model_get_vocab(model)

    def tokenize(self, text: bytes, special=False):
        return tokenize(self.api, self.vocab, text, special)


def tokenize(api, vocab, text, special):
    room = len(text) + 16
    ids = (ctypes.c_int32 * room)()
    count = api.llama_tokenize(vocab, text, len(text), ids, room, False, special)
    return list(ids[:count])


def quantize_chunk():
    """f(type id, x [rows, cols] f32, importance [cols] or None) -> bytes."""
    bindings()
    base = ctypes.CDLL(str(BIN / "libggml-base.so"))
    call = base.ggml_quantize_chunk
    call.restype = ctypes.c_size_t
    call.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                     ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    size = base.ggml_row_size
    size.restype = ctypes.c_size_t
    size.argtypes = [ctypes.c_int, ctypes.c_int64]

    def quantize(type_id, x, importance=None):
        rows, cols = x.shape
        blocks = np.empty(rows * size(type_id, cols), np.uint8)
        weights = None if importance is None else importance.ctypes.data
        call(type_id, x.ctypes.data, blocks.ctypes.data, 0, rows, cols, weights)
        return blocks

    return quantize


def gguf_tools():
    """The reader and the NumPy dequantisers of llama.cpp's gguf-py, without the package's needs."""
    build()
    if not hasattr(sys.modules.get("gguf"), "__path__"):
        package = types.ModuleType("gguf")
        package.__path__ = [str(next(PEERS.glob(
            "llama_cpp_python-*/vendor/llama.cpp/gguf-py/gguf")))]
        sys.modules["gguf"] = package
    return (importlib.import_module("gguf.gguf_reader").GGUFReader,
            importlib.import_module("gguf.quants").dequantize)
