#include <gtest/gtest.h>

#include <fstream>

#include "cairn/base/error.h"
#include "cairn/data/dataset.h"
#include "cairn/data/loader.h"
#include "cairn/text/bpe_trainer.h"
#include "cairn/text/tokenizer_json.h"
#include "tests/support/temporary_folder.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

std::string text_of(int seed) {
  std::string text;
  for (int line = 0; line < 5 + seed % 40; ++line)
    text += "line " + std::to_string(line * seed) + " of file " + std::to_string(seed) +
            ", which tells little\n";
  return text;
}

class PackTest : public testing::Test {
 protected:
  PackTest() : team_(1) {
    fs::create_directories(root_ / "text");
    for (int i = 0; i < 700; ++i)  // more than one group of documents
      std::ofstream(root_ / "text" / ("file" + std::to_string(i))) << text_of(i);
  }

  Corpus gather(double held_out = 0.2) {
    CorpusOptions options;
    options.roots = {root_ / "text"};
    options.held_out_fraction = held_out;
    return gather_corpus(options, team_);
  }
  Tokenizer tokenizer() {
    const std::vector<std::string> texts = {text_of(1), text_of(2)};
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    return Tokenizer(train_bpe(views, {.vocab_size = 300}, team_));
  }
  DatasetInfo pack(const std::string& name, int threads, PackOptions options = {}) {
    ThreadTeam team(threads, true);
    options.show_progress = false;
    return pack_dataset(gather(), tokenizer(), root_ / name, options, team);
  }
  static std::vector<int32_t> all_tokens(const TokenStream& stream) {
    std::vector<int32_t> all;
    for (size_t i = 0; i < stream.shards(); ++i) {
      std::vector<int32_t> tokens(stream.shard(i).info().tokens);
      stream.shard(i).read(0, tokens);
      all.insert(all.end(), tokens.begin(), tokens.end());
    }
    return all;
  }

  const TemporaryFolder folder_;
  const Path root_ = folder_.path();
  ThreadTeam team_;
};

TEST_F(PackTest, GivesTheSameBytesForOneAndThreeThreads) {
  pack("one", 1, {.shard_tokens = 5000});
  pack("three", 3, {.shard_tokens = 5000});
  size_t files = 0;
  for (const auto& entry : fs::directory_iterator(root_ / "one")) {
    const Path twin = root_ / "three" / entry.path().filename();
    ASSERT_TRUE(fs::exists(twin)) << twin;
    EXPECT_EQ(read_file(entry.path()), read_file(twin)) << entry.path();
    ++files;
  }
  EXPECT_GT(files, 8U);  // several shards
}

TEST_F(PackTest, TokensDecodeToTheFilesWithAnEndAfterEach) {
  const DatasetInfo info = pack("dataset", 2);
  const Tokenizer made_by = load_tokenizer(root_ / "dataset");
  EXPECT_EQ(made_by.fingerprint(), info.tokenizer);
  const Corpus corpus = gather();
  for (const Split split : {Split::training, Split::held_out}) {
    const auto& files = split == Split::training ? corpus.training : corpus.held_out;
    std::string expected;
    for (const CorpusFile& file : files) expected += read_file(file.path) + "<|endoftext|>";
    const TokenStream stream(root_ / "dataset", split);
    EXPECT_EQ(made_by.decode(all_tokens(stream)), expected);
    EXPECT_EQ(info.split(split).documents, files.size());
    EXPECT_EQ(info.split(split).bytes, total_bytes(files));
  }
}

TEST_F(PackTest, ALongFileIsEncodedInPiecesThatCutNoWord) {
  fs::remove_all(root_ / "text");
  std::string text;
  for (int i = 0; text.size() < 5'000'000; ++i)
    text += "line " + std::to_string(i) + (i % 3 == 0 ? "\n\n  indented" : "") + "\n";
  std::ofstream(root_ / "long") << text;
  CorpusOptions where;
  where.roots = {root_ / "long"};
  where.held_out_fraction = 0;
  where.max_file_bytes = 100;
  const Tokenizer model = tokenizer();
  ThreadTeam team(3, true);
  pack_dataset(gather_corpus(where, team), model, root_ / "dataset", {.show_progress = false},
               team);
  std::vector<int32_t> expected = model.encode(text);
  expected.push_back(model.eos_id());
  EXPECT_EQ(all_tokens(TokenStream(root_ / "dataset", Split::training)), expected);
}

TEST_F(PackTest, EveryDocumentKnowsItsFileAcrossShards) {
  pack("dataset", 1, {.shard_tokens = 3000});
  const TokenStream stream(root_ / "dataset", Split::training);
  const Corpus corpus = gather();
  ASSERT_GT(stream.shards(), 2U);
  size_t file = 0;
  for (size_t shard = 0; shard < stream.shards(); ++shard)
    for (uint64_t document = 0; document < stream.shard(shard).info().documents; ++document, ++file)
      if (file % 50 == 0) {
        EXPECT_EQ(stream.file_of(shard, document), corpus.training[file].path.string());
      }
  EXPECT_EQ(file, corpus.training.size());
}

TEST_F(PackTest, RefusesAFolderThatHoldsADatasetAndLeavesItAsItWas) {
  pack("dataset", 1);
  const std::string before = read_file(root_ / "dataset" / "dataset.json");
  try {
    pack("dataset", 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
  }
  EXPECT_EQ(read_file(root_ / "dataset" / "dataset.json"), before);
}

TEST_F(PackTest, RefusesATokenizerWithoutAnEndOfText) {
  TokenizerSpec spec = tokenizer().spec();
  spec.eos_id = -1;
  EXPECT_THROW(pack_dataset(gather(), Tokenizer(spec), root_ / "dataset", {}, team_), Error);
  EXPECT_FALSE(fs::exists(root_ / "dataset"));
}

// A full disk at the n-th write, for every n.
class FullDisk : public FileFaults {
 public:
  explicit FullDisk(size_t writes) : left_(writes) {}
  Outcome before(Operation operation, const Path&, size_t) override {
    if (operation != Operation::write) return {};
    if (left_ > 0) {
      --left_;
      return {};
    }
    struck_ = true;
    return {.error = ENOSPC};
  }
  bool struck() const { return struck_; }

 private:
  size_t left_;
  bool struck_ = false;
};

TEST_F(PackTest, AFullDiskAtAnyWriteLeavesNoDatasetThatOpens) {
  for (int i = 20; i < 700; ++i) fs::remove(root_ / "text" / ("file" + std::to_string(i)));
  size_t struck = 0;
  for (size_t writes = 0;; ++writes, ++struck) {
    fs::remove_all(root_ / "dataset");
    FullDisk disk(writes);
    set_file_faults(&disk);
    bool threw = false;
    try {
      pack("dataset", 1);
    } catch (const Error& error) {
      threw = true;
      EXPECT_EQ(error.kind(), ErrorKind::failed);
    }
    set_file_faults(nullptr);
    EXPECT_EQ(threw, disk.struck());
    if (!threw) break;
    EXPECT_THROW(read_dataset_info(root_ / "dataset"), Error) << "write " << writes;
  }
  EXPECT_GE(struck, 6U);
}

}  // namespace
}  // namespace cairn
