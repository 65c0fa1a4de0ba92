#!/usr/bin/env python3
"""Cairn and llama.cpp on the same GGUF files of a real model: the same files, tokens and predictions.

  file        what each quantises from the same f32 file: bytes that differ, and the squared error of
              the weights relative to their squares where they do; llama.cpp opens each of ours
  tokens      ids of a text (always compared: the rest reads them)
  argmax      the most likely token behind each of 256 tokens of 20 passages, in f32; those where
              llama.cpp's two best logits are closer than 1e-3 are listed and do not count
  logits      behind each of 512 tokens, both engines with f32 and with f16 weights as they run them
  imatrix     what either quantises with one importance matrix, gathered by Cairn from other text: the
              same types; how many tensors differ; the divergence from f32 before and with it
  perplexity  of the text, as each engine runs the type (f32: both with activations in f32)
  kl          mean divergence of each type's predictions from f32's, as each engine runs it, with its
              standard error

Prints one JSON line a comparison, with "ok", and exits with 1 when one is not. The model is
SmolLM2-135M-Instruct unless another GGUF file is given; the text is Python's own library.

    ./dev peers gguf [--model FILE] [--text FILE] [--kib 256] [--kl-kib 32] [--only file ...]
"""

import argparse
import json
import pathlib
import subprocess
import sys
import sysconfig
import tempfile

import numpy as np

from common.package import CAIRN, import_cairn
from llama import library

FILE_TYPES = ["f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_1", "q5_0", "q4_k_m", "q4_k_s",
              "q4_1", "q4_0", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k"]
KL_TYPES = ["f16", "q8_0", "q4_0", "q4_1", "q4_k_m"]
WINDOW = 512
PASSAGES, PASSAGE = 20, 256
TIE = 1e-3


def report(what, ok, **facts):
    print(json.dumps({"bench": "peers gguf", "what": what, **facts, "ok": bool(ok)}), flush=True)
    return bool(ok)


def cairn(*words):
    done = subprocess.run([str(CAIRN), *map(str, words)], stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"cairn {' '.join(map(str, words))} fails")
    return json.loads(done.stdout)


def read_text(path, size):
    """`size` bytes of a file, or of Python's library, file after file by name."""
    if path:
        return pathlib.Path(path).read_bytes()[:size]
    text = b""
    for file in sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text += file.read_bytes()
        if len(text) >= size:
            break
    return text[:size].decode(errors="ignore").encode()


class Files:
    """The model in f32 and what either program makes of it, in a folder."""

    def __init__(self, model, folder):
        self.folder = pathlib.Path(folder)
        self.f32 = self.folder / "f32.gguf"
        cairn("quantize", model, self.f32, "-t", "f32", "--json")

    def ours(self, kind):
        path = self.folder / f"cairn-{kind}.gguf"
        if not path.exists():
            cairn("quantize", self.f32, path, "-t", kind, "--json")
        return path

    def theirs(self, kind):
        path = self.folder / f"llama-{kind}.gguf"
        if not path.exists():
            library.tool("llama-quantize", self.f32, path, kind.upper(), library.THREADS)
        return path


def squared_error(dequantize, tensor, source):
    return float(np.square(dequantize(tensor.data, tensor.tensor_type).ravel() - source).sum(
        dtype=np.float64))


def compare_file(files, kind):
    reader, dequantize = library.gguf_tools()
    source = {t.name: t for t in reader(files.f32).tensors}
    ours, theirs = ({t.name: t for t in reader(f).tensors}
                    for f in (files.ours(kind), files.theirs(kind)))
    same_types = sorted(ours) == sorted(theirs) and all(
        ours[n].tensor_type == theirs[n].tensor_type for n in ours)
    facts = {"type": kind, "tensors": len(ours), "tensors_differing": 0, "bytes": 0,
             "bytes_differing": 0}
    errors = np.zeros(3)  # ours, theirs, squares of the weights
    for name in ours if same_types else []:
        mine, other = ours[name].data.view(np.uint8), theirs[name].data.view(np.uint8)
        different = int((mine != other).sum())
        facts["bytes"] += mine.size
        facts["bytes_differing"] += different
        if different:
            facts["tensors_differing"] += 1
            weights = source[name].data.ravel()
            errors += [squared_error(dequantize, ours[name], weights),
                       squared_error(dequantize, theirs[name], weights),
                       float(np.square(weights, dtype=np.float64).sum())]
    if errors[2] > 0:
        facts |= {"error": errors[0] / errors[2], "peer_error": errors[1] / errors[2]}
    library.Model(files.ours(kind)).close()  # or the program ends
    return report("file", same_types and errors[0] <= errors[1] * 1.001, **facts)


def compare_tokens(package, files, text):
    peer = library.Model(files.f32)
    mine = package.Tokenizer.load(str(files.f32)).encode(text.decode())
    theirs = peer.tokenize(text)
    peer.close()
    if not report("tokens", mine == theirs, bytes=len(text), tokens=len(theirs)):
        sys.exit(1)  # there is nothing to compare behind other tokens
    return theirs


def compare_argmax(package, files, tokens):
    """Counts a token as decided when llama.cpp's best logit is ahead by TIE."""
    ours, peer = package.Model(files.f32), library.Model(files.f32, exact=True)
    undecided, wrong, furthest = [], 0, 0.0
    for i in range(PASSAGES):
        begin = i * (len(tokens) - PASSAGE) // (PASSAGES - 1)
        passage = tokens[begin:begin + PASSAGE]
        peer.forget()
        mine, theirs = ours.logits(passage), peer.append(passage)
        furthest = max(furthest, float(np.abs(mine - theirs).max()))
        for t in np.flatnonzero(mine.argmax(1) != theirs.argmax(1)):
            second, first = np.partition(theirs[t], -2)[-2:]
            undecided.append({"passage": i, "token": int(t), "gap": float(first - second)})
            wrong += first - second >= TIE
    peer.close()
    return report("argmax", wrong == 0, tokens=PASSAGES * PASSAGE, wrong=int(wrong),
                  undecided=undecided, largest_difference=furthest)


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def compare_logits(package, files, tokens):
    """Both beside each other, and each beside the same weights with everything else in f32: where the
    peer is further from that than 2e-2 it cannot be the measure, only a bound."""
    window, good = tokens[:WINDOW], True
    for kind in ["f32", "f16"]:
        path = files.f32 if kind == "f32" else files.ours(kind)
        exact = package.Model(path).logits(window)
        mine = package.Model(path, precision="stored", cache=kind).logits(window)
        peer = library.Model(path, WINDOW, exact=True)
        theirs = peer.append(window)
        peer.close()
        own, other = (float(np.abs(logits - exact).max()) for logits in (mine, theirs))
        right = log_softmax(theirs)
        divergence = float((np.exp(right) * (right - log_softmax(mine))).sum(1).mean())
        same = float((mine.argmax(1) == theirs.argmax(1)).mean())
        good &= report("logits", own <= max(2e-2, other) and divergence <= 1e-5 and same >= 0.995, type=kind,
                       tokens=WINDOW, difference=float(np.abs(mine - theirs).max()),
                       difference_from_f32=own, peer_difference_from_f32=other, kl=divergence,
                       same_top=same)
    return good


def windows_of(tokens, model):
    """As `cairn eval` cuts a file: behind the token that ends documents, whole windows only."""
    text = [model.api.llama_vocab_eos(model.vocab), *tokens]
    count = (len(text) - 1) // WINDOW
    return [(text[i * WINDOW:(i + 1) * WINDOW], text[i * WINDOW + 1:(i + 1) * WINDOW + 1])
            for i in range(count)]


def their_perplexity(path, tokens, exact):
    model = library.Model(path, WINDOW, exact=exact)
    nats, count = 0.0, 0
    for window, following in windows_of(tokens, model):
        model.forget()
        logits = model.append(window)
        most = logits.max(1)
        sums = np.exp(logits - most[:, None]).sum(1, dtype=np.float64)
        nats += (np.log(sums) + most - logits[np.arange(WINDOW), following]).sum(dtype=np.float64)
        count += WINDOW
    model.close()
    return float(np.exp(nats / count))


def their_divergences(paths, reference, tokens):
    """{kind: mean KL from the reference, its standard error} by llama.cpp as it runs usually, window by window."""
    models = {kind: library.Model(path, WINDOW) for kind, path in paths.items()}
    exact = library.Model(reference, WINDOW, exact=True)
    found = {kind: [] for kind in paths}
    for window, _ in windows_of(tokens, exact):
        exact.forget()
        right = log_softmax(exact.append(window))
        probabilities = np.exp(right)
        for kind, model in models.items():
            model.forget()
            found[kind].append(
                (probabilities * (right - log_softmax(model.append(window)))).sum(1))
    for model in (exact, *models.values()):
        model.close()
    return {kind: mean_and_error(np.concatenate(values)) for kind, values in found.items()}


def mean_and_error(values):
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))


def compare_perplexity(files, tokens, path, kinds):
    good = True
    for kind in kinds:
        model = files.f32 if kind == "f32" else files.ours(kind)
        # `eval perplexity` multiplies in f32 whatever the type; `eval kl` runs the engine.
        plain = kind == "f32"
        suite = ["perplexity", path] if plain else ["kl", path, "--reference", model]
        found = cairn("eval", model, *suite, "--length", WINDOW, "--windows",
                      len(tokens) // WINDOW, "--json")
        theirs = their_perplexity(model, tokens, plain)
        ratio = found["perplexity"] / theirs
        good &= report("perplexity", abs(ratio - 1) <= 1e-3, type=kind, tokens=found["tokens"],
                       perplexity=found["perplexity"], peer_perplexity=theirs, ratio=ratio)
    return good


def compare_divergence(files, tokens, path, kinds):
    theirs = their_divergences({kind: files.ours(kind) for kind in kinds}, files.f32, tokens)
    good = True
    for kind in kinds:
        found = cairn("eval", files.ours(kind), "kl", path, "--reference", files.f32, "--length",
                      WINDOW, "--windows", len(tokens) // WINDOW, "--json")
        peer, peer_error = theirs[kind]
        error = found["kl_standard_error"]
        # Both see the same tokens, and share most of what makes the mean uncertain: a bar of either
        # is more than the difference may be by chance.
        good &= report("kl", found["kl_mean"] <= peer + max(error, peer_error), type=kind,
                       tokens=found["tokens"], kl=found["kl_mean"], kl_error=error, peer_kl=peer,
                       peer_kl_error=peer_error, kl_99=found["kl_99"], same_top=found["same_top"])
    return good


def compare_importance(files, text, path, kinds):
    """One matrix for both quantisers; what it saves is measured on other text than it is from."""
    folder = files.folder
    (folder / "importance.txt").write_bytes(text)
    matrix = folder / "imatrix.gguf"
    good = True
    for kind in kinds:
        ours, theirs = folder / f"cairn-weighted-{kind}.gguf", folder / f"llama-weighted-{kind}.gguf"
        source = matrix if matrix.exists() else folder / "importance.txt"
        more = [] if matrix.exists() else ["--imatrix-out", matrix]
        cairn("quantize", files.f32, ours, "-t", kind, "--imatrix", source, *more, "--json")
        library.tool("llama-quantize", "--imatrix", matrix, files.f32, theirs, kind.upper(),
                     library.THREADS)
        reader, _ = library.gguf_tools()
        mine, other = ({t.name: t for t in reader(f).tensors} for f in (ours, theirs))
        same_types = all(mine[n].tensor_type == other[n].tensor_type for n in mine)
        differing = sum(not np.array_equal(mine[n].data.view(np.uint8), other[n].data.view(np.uint8))
                        for n in mine) if same_types else len(mine)
        kl = [cairn("eval", file, "kl", path, "--reference", files.f32, "--length", WINDOW,
                    "--json")["kl_mean"] for file in (files.ours(kind), ours, theirs)]
        good &= report("imatrix", same_types and kl[1] < kl[0] and kl[1] <= kl[2] * 1.05, type=kind,
                       tensors=len(mine), tensors_differing=differing, kl_plain=kl[0],
                       kl_weighted=kl[1], kl_peer_weighted=kl[2])
    return good


def main():
    parts = ["file", "tokens", "argmax", "logits", "imatrix", "perplexity", "kl"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=library.SMOLLM2)
    parser.add_argument("--text", help="a UTF-8 file")
    parser.add_argument("--kib", type=int, default=256, help="of text for tokens and perplexity")
    parser.add_argument("--kl-kib", type=int, default=32, help="of text for the divergences")
    parser.add_argument("--imatrix-kib", type=int, default=64, help="of text that importance is from")
    parser.add_argument("--imatrix-types", nargs="+", default=["q4_0", "q2_k"], choices=FILE_TYPES)
    parser.add_argument("--types", nargs="+", default=FILE_TYPES, choices=FILE_TYPES)
    parser.add_argument("--perplexity-types", nargs="+", default=["f32"],
                        choices=["f32", *FILE_TYPES])
    parser.add_argument("--kl-types", nargs="+", default=KL_TYPES, choices=FILE_TYPES)
    parser.add_argument("--only", nargs="+", default=parts, choices=parts)
    options = parser.parse_args()
    library.build()
    package = import_cairn()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        files = Files(options.model, folder)
        if "file" in options.only:
            for kind in options.types:
                good &= compare_file(files, kind)
        text = read_text(options.text, options.kib << 10)
        tokens = compare_tokens(package, files, text)
        path = pathlib.Path(folder) / "text"
        path.write_bytes(text)
        if "argmax" in options.only:
            good &= compare_argmax(package, files, tokens)
        if "logits" in options.only:
            good &= compare_logits(package, files, tokens)
        if "imatrix" in options.only:
            all_text = read_text(options.text, (options.kib + options.imatrix_kib) << 10)
            held_out = pathlib.Path(folder) / "held-out"
            held_out.write_bytes(text[:options.kl_kib << 10])
            good &= compare_importance(files, all_text[len(text):], held_out, options.imatrix_types)
        if "perplexity" in options.only:
            good &= compare_perplexity(files, tokens, path, options.perplexity_types)
        if "kl" in options.only:
            few = tokens[:len(tokens) * options.kl_kib // options.kib]
            good &= compare_divergence(files, few, path, options.kl_types)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
