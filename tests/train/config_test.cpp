#include "cairn/train/config.h"

#include <gtest/gtest.h>

#include "cairn/base/error.h"
#include "tiny_run.h"

namespace cairn {
namespace {

using testing::HasSubstr;

constexpr const char* kMinimal = "[data]\nfolder = \"d\"\n[run]\nsteps = 100\n";

TrainConfig parse(const std::string& toml, const std::vector<std::string>& overrides = {}) {
  return parse_config(toml, "train.toml", overrides);
}

TEST(TrainConfig, CommandLineWinsOverFileAndFileOverDefaults) {
  const TrainConfig c = parse(std::string(kMinimal) + "[optim]\nlr = 0.01\nclip = 2.0\n",
                              {"optim.lr=3e-3", "run.precision=f32"});
  EXPECT_EQ(c.optim.lr, 3e-3);
  EXPECT_EQ(c.optim.clip, 2.0);
  EXPECT_EQ(c.optim.beta1, 0.9);
  EXPECT_EQ(c.origins.at("optim.lr"), Origin::command_line);
  EXPECT_EQ(c.origins.at("optim.clip"), Origin::file);
  EXPECT_EQ(c.origins.count("optim.beta1"), 0U);
}

TEST(TrainConfig, WeightsOfNarrowModelsStartLarger) {
  const auto derived = [](const std::vector<std::string>& overrides) {
    const TrainConfig c = parse(kMinimal, overrides);
    EXPECT_EQ(c.origins.at("model.init_std"), Origin::derived);
    return c.model.init_std;
  };
  EXPECT_DOUBLE_EQ(derived({"model.hidden_size=64", "model.heads=4"}), 0.125);
  EXPECT_DOUBLE_EQ(derived({"model.hidden_size=400", "model.heads=4"}), 0.05);
  EXPECT_DOUBLE_EQ(derived({"model.hidden_size=4096", "model.heads=32"}), 0.02);
  EXPECT_EQ(parse(kMinimal, {"model.init_std=0.01"}).model.init_std, 0.01);
}

TEST(TrainConfig, ExpertsMakeAFamilyWhoseFilesCanSayThem) {
  const auto model = [](const std::vector<std::string>& overrides) {
    return parse(kMinimal, overrides).model_config(64);
  };
  EXPECT_EQ(model({}).architecture, "llama");
  const ModelConfig plain = model({"model.experts=4", "model.router_loss=0.5"});
  EXPECT_EQ(plain.architecture, "granitemoe");
  EXPECT_EQ(plain.experts_per_token, 2U);
  EXPECT_EQ(plain.router_loss, 0.5);
  check_config(plain);
  EXPECT_EQ(model({"model.experts=4", "model.shared_intermediate_size=32"}).architecture,
            "granitemoeshared");
  EXPECT_THROW(check_config(model({"model.experts=4", "model.experts_per_token=5"})), Error);
}

TEST(TrainConfig, UnderstandsUnits) {
  const TrainConfig c =
      parse("[data]\nfolder = \"d\"\n",
            {"run.tokens=500M", "batch.tokens_per_step=64k", "batch.seq_len=1e3",
             "batch.micro_batch=8", "schedule.warmup=5%", "checkpoint.every_time=2h30m"});
  EXPECT_EQ(c.run.tokens, 500'000'000U);
  EXPECT_EQ(c.batch.tokens_per_step, 64'000U);
  EXPECT_EQ(c.batch.seq_len, 1000U);
  EXPECT_EQ(c.batch.accumulation(), 8U);
  EXPECT_EQ(c.schedule.warmup.value, 0.05);
  EXPECT_EQ(c.checkpoint.every_time.seconds, 9000);
}

TEST(TrainConfig, TwoOfTheBatchGiveTheThird) {
  const std::string m = kMinimal;
  EXPECT_EQ(parse(m, {"batch.micro_batch=4", "batch.seq_len=128"}).batch.tokens_per_step, 512U);
  EXPECT_EQ(parse(m, {"batch.tokens_per_step=4096", "batch.seq_len=128"}).batch.micro_batch, 32U);
  EXPECT_EQ(parse(m, {"batch.tokens_per_step=4096", "batch.micro_batch=4"}).batch.seq_len, 1024U);
}

TEST(TrainConfig, PrintsWhatReadsBackToTheSame) {
  const TrainConfig c = parse(
      std::string(kMinimal) + "[model.attention]\nrope_theta = 500000.0\nposition = \"rope\"\n",
      {"schedule.warmup=100 steps", "schedule.decay=1M tokens", "checkpoint.every_time=1h3m2.5s"});
  const std::string text = print_config(c);
  const TrainConfig again = parse(text);
  for (const ConfigDifference& d : compare_configs(c, again))
    ADD_FAILURE() << d.key << " was " << d.before << " is " << d.after;
  EXPECT_THAT(text, HasSubstr("# command line"));
  EXPECT_THAT(text, HasSubstr("# default"));
  EXPECT_EQ(std::get<double>(again.model.attention.values.at("rope_theta")), 500000.0);
}

TEST(TrainConfig, ComparesKeysAndKnowsWhichMustMatch) {
  const TrainConfig a = parse(kMinimal), b = parse(kMinimal, {"run.steps=200", "model.layers=7"});
  const auto differences = compare_configs(a, b);
  ASSERT_EQ(differences.size(), 2U);
  EXPECT_EQ(differences[0].key, "model.layers");
  EXPECT_TRUE(differences[0].fixed);
  EXPECT_EQ(differences[1].key, "run.steps");
  EXPECT_FALSE(differences[1].fixed);
}

// What was written, and what the message must name: key, value, what is allowed or what to do.
struct Wrong {
  const char* toml;
  std::vector<const char*> named;
};

TEST(TrainConfig, TwentyWrongOnesGetMessagesToActOn) {
  const std::vector<Wrong> wrongs = {
      {"[optim]\nlearning_rate = 0.1", {"optim.learning_rate", "no such key", "--print-config"}},
      {"[optim]\nbeta3 = 0.1", {"optim.beta3", "did you mean \"optim.beta"}},
      {"[optm]\nlr = 0.1", {"optm.lr", "did you mean \"optim.lr\""}},
      {"[optim]\nlr = \"fast\"", {"optim.lr", "a number from 1e-12 to 10", "fast"}},
      {"[optim]\nlr = -1", {"optim.lr", "from 1e-12", "-1"}},
      {"[optim]\nbeta1 = 1.0", {"optim.beta1", "0.999999", "1"}},
      {"[model]\nlayers = 2.5", {"model.layers", "whole number", "2.5"}},
      {"[model]\nhidden_size = 100\nheads = 3", {"model.heads", "divisor of hidden_size", "3"}},
      {"[model]\nheads = 6\nkv_heads = 4", {"model.kv_heads", "divisor of heads = 6", "4"}},
      {"[batch]\ntokens_per_step = 1000\nmicro_batch = 4\nseq_len = 64",
       {"batch.tokens_per_step", "4 x 64 = 256", "1000", "768 would do"}},
      {"[batch]\ntokens_per_step = 1000\nseq_len = 64",
       {"batch.tokens_per_step", "multiple of 64", "1000", "960"}},
      {"[model]\ncontext_length = 128\n[batch]\nseq_len = 256\nmicro_batch = 1",
       {"batch.seq_len", "model.context_length = 128", "256"}},
      {"[schedule]\nkind = \"cosin\"", {"schedule.kind", "cosine, wsd, constant", "did you mean"}},
      {"[schedule]\nwarmup = \"110%\"", {"schedule.warmup", "2%", "110%"}},
      {"[schedule]\nwarmup = \"soon\"", {"schedule.warmup", "100 steps", "soon"}},
      {"[run]\ntime = \"4\"", {"run.time", "2h30m", "\"4\""}},
      {"[run]\ntime = \"4m\"", {"run.steps, run.tokens, run.time", "exactly one", "2 of them"}},
      {"[run]\ntokens = 10", {"exactly one", "2 of them"}},
      {"[data]\ncross_document_attention = \"no\"", {"allow, mask", "no"}},
      {"[log]\ntensorboard = \"yes\"", {"log.tensorboard", "true or false", "yes"}},
      {"[checkpoint]\nkeep_last = 0", {"checkpoint.keep_last", "from 1", "0"}},
      {"[run]\nthreads = -2", {"run.threads", "whole number", "-2"}},
      {"[optim]\nlr = [1, 2]", {"optim.lr", "a number", "a list"}},
      {"[model]\nhidden_size = 738\nheads = 2", {"model.head_dim", "from 0 to 256", "369"}},
      {"[model.attention]\nmechanism = \"relative_bias\"\nmask = \"cross\"",
       {"train.toml:3", "option mask", "causal", "cross"}},
      {"optim = 3", {"optim", "no such key"}},
      {"[optim\nlr = 1", {"train.toml:1"}},
  };
  for (const Wrong& wrong : wrongs) {
    // Dotted keys of [run] cannot be given twice, so the length is given on the command line.
    try {
      parse(wrong.toml, {"run.steps=100"});
      ADD_FAILURE() << wrong.toml << " was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage) << wrong.toml;
      for (const char* part : wrong.named) EXPECT_THAT(error.what(), HasSubstr(part));
    }
  }
}

TEST(TrainConfig, SaysWhereTheWrongValueStands) {
  try {
    parse("[optim]\n\nlr = 99", {"run.steps=1"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("train.toml:3"));
  }
  try {
    parse("", {"run.steps=1", "optim.lr=99"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("command line"));
  }
}

TEST(TrainConfig, ARunWithoutALengthIsRefused) {
  EXPECT_THROW(parse(""), Error);
}

TEST(TrainConfig, ATimeBudgetWantsSharesForTheSchedule) {
  EXPECT_NO_THROW(parse("", {"run.time=4m"}));
  EXPECT_THROW(parse("", {"run.time=4m", "schedule.warmup=100 steps"}), Error);
}

TEST(TrainConfig, TruncationAtEveryByteIsReadOrRefusedButNeverWorse) {
  const std::string text = print_config(parse(kMinimal));
  for (size_t length = 0; length < text.size(); ++length) {
    try {
      parse(text.substr(0, length));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
    }
  }
}

TEST(Units, RefuseWhatTheyAreNot) {
  for (const char* bad : {"", "-1", "1.5", "1kk", "1e30", "nan", "0x10", "1 2"})
    EXPECT_FALSE(parse_whole(bad)) << bad;
  for (const char* bad : {"", "4", "m", "4x", "30m2h", "1h1h", "-4m", "nanm"})
    EXPECT_FALSE(parse_duration(bad)) << bad;
  for (const char* bad : {"", "inf", "nan", "%", "1,5", "1e999"})
    EXPECT_FALSE(parse_real(bad)) << bad;
}

TEST(TrainConfig, IncludedFilesAreNamedBehindTheirValuesAndInMessages) {
  const TemporaryFolder folder;
  write_file_atomically(folder.path() / "base.toml", "[optim]\nlr = 0.5\nclip = 3.0\n");
  write_file_atomically(folder.path() / "run.toml",
                        "include = [\"base.toml\"]\n[run]\nsteps = 3\n[optim]\nclip = 4.0\n");
  const TrainConfig c = load_config(folder.path() / "run.toml", {});
  EXPECT_EQ(c.optim.lr, 0.5);
  EXPECT_EQ(c.optim.clip, 4.0);
  const std::string text = print_config(c);
  EXPECT_THAT(text, HasSubstr("base.toml:2:6; highest learning rate"));
  EXPECT_THAT(text, HasSubstr("run.toml:5:8; largest norm"));
  write_file_atomically(folder.path() / "base.toml", "[optim]\nlr = 50\n");
  try {
    load_config(folder.path() / "run.toml", {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("base.toml:2:6"));
    EXPECT_THAT(error.what(), HasSubstr("optim.lr"));
  }
}

TEST(TrainConfig, ARewindNeedsACheckpointToGoBackToAndPatienceAnEvaluation) {
  const auto message = [](const std::vector<std::string>& overrides) {
    try {
      parse(kMinimal, overrides);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(message({"health.on_spike=rewind"}), HasSubstr("checkpoint.every"));
  EXPECT_EQ(message({"health.on_spike=rewind", "checkpoint.every=5"}), "");
  EXPECT_THAT(
      message({"health.on_spike=rewind", "checkpoint.every=5", "run.steps=0", "run.time=4m"}),
      HasSubstr("run.time"));
  EXPECT_THAT(message({"eval.patience=3"}), HasSubstr("eval.every"));
}

}  // namespace
}  // namespace cairn
