#include "cairn/study/config.h"

#include <algorithm>
#include <array>

#include "cairn/base/error.h"
#include "cairn/base/suggest.h"

namespace cairn {
namespace {

const std::vector<std::string> kScores = {"accuracy", "error", "sequence_accuracy", "loss"};
// Sections of a training configuration that a mechanism may change for itself.
const std::vector<std::string> kSections = {"model",    "data", "batch",      "optim",
                                            "schedule", "run",  "checkpoint", "eval"};

// Takes the keys of a document one by one.
class StudyReader {
 public:
  StudyReader(TomlDocument document, Study& study)
      : document_(std::move(document)), study_(study) {}

  void read();

 private:
  using Entry = std::map<std::string, TomlValue>;

  [[noreturn]] void refuse(const TomlValue& value, const std::string& key,
                           const std::string& expected, const std::string& found,
                           const std::string& hint = "") const {
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading " + document_.place(value),
                 .subject = key,
                 .expected = expected,
                 .found = found,
                 .hint = hint});
  }
  // Removes the keys that begin with `prefix` from the document.
  Entry take(const std::string& prefix);
  std::string text(const TomlValue& value, const std::string& key) const;
  uint64_t whole(const TomlValue& value, const std::string& key) const;
  std::vector<double> numbers(const TomlValue& value, const std::string& key) const;
  std::vector<std::string> words(const TomlValue& value, const std::string& key) const;
  void read_study(const Entry& entry);
  std::string mechanism_name(const TomlValue& value) const;
  StudyMechanism read_mechanism(const Entry& entry) const;
  StudyTest read_test(const Entry& entry) const;

  TomlDocument document_;
  Study& study_;
};

StudyReader::Entry StudyReader::take(const std::string& prefix) {
  Entry entry;
  auto it = document_.values.lower_bound(prefix);
  while (it != document_.values.end() && it->first.starts_with(prefix)) {
    entry[it->first.substr(prefix.size())] = it->second;
    it = document_.values.erase(it);
  }
  return entry;
}

std::string StudyReader::text(const TomlValue& value, const std::string& key) const {
  const auto* text = std::get_if<std::string>(&value.value);
  if (text == nullptr || text->empty()) refuse(value, key, "a word", std::string(toml_kind(value)));
  return *text;
}

uint64_t StudyReader::whole(const TomlValue& value, const std::string& key) const {
  const auto* number = std::get_if<int64_t>(&value.value);
  if (number == nullptr || *number < 1 || *number > int64_t{1} << 40)
    refuse(value, key, "a whole number from 1 on",
           number == nullptr ? std::string(toml_kind(value)) : std::to_string(*number));
  return static_cast<uint64_t>(*number);
}

std::vector<double> StudyReader::numbers(const TomlValue& value, const std::string& key) const {
  const OptionValue read = option_value(value);
  if (const auto* list = std::get_if<std::vector<double>>(&read); list != nullptr && !list->empty())
    return *list;
  if (const auto* real = std::get_if<double>(&read)) return {*real};
  if (const auto* integer = std::get_if<int64_t>(&read)) return {static_cast<double>(*integer)};
  refuse(value, key, "a number or a list of numbers", std::string(toml_kind(value)));
}

std::vector<std::string> StudyReader::words(const TomlValue& value, const std::string& key) const {
  const auto* list = std::get_if<TomlArray>(&value.value);
  if (list == nullptr) return {text(value, key)};
  std::vector<std::string> out;
  for (const TomlValue& element : *list) out.push_back(text(element, key));
  return out;
}

void StudyReader::read_study(const Entry& entry) {
  for (const auto& [key, value] : entry) {
    const std::string name = "study." + key;
    if (key == "name") {
      study_.name = text(value, name);
    } else if (key == "title") {
      study_.title = text(value, name);
    } else if (key == "seeds") {
      study_.seeds = whole(value, name);
    } else if (key == "score") {
      study_.score = text(value, name);
      if (std::find(kScores.begin(), kScores.end(), study_.score) == kScores.end())
        refuse(value, name, "accuracy, error, sequence_accuracy or loss", study_.score,
               did_you_mean(study_.score, kScores));
    } else {
      refuse(value, name, "name, title, seeds or score", "no such key");
    }
  }
}

// Commas separate names on the command line.
std::string StudyReader::mechanism_name(const TomlValue& value) const {
  const std::string name = text(value, "mechanism.name");
  if (name.find(',') != std::string::npos)
    refuse(value, "mechanism.name", "a name without a comma", name);
  return name;
}

StudyMechanism StudyReader::read_mechanism(const Entry& entry) const {
  StudyMechanism out;
  for (const auto& [key, value] : entry) {
    const std::string head = key.substr(0, key.find('.'));
    if (key == "name")
      out.name = mechanism_name(value);
    else if (key == "lr")
      out.lr = numbers(value, "mechanism.lr");
    else if (key == "attention")
      out.settings["model.attention.mechanism"] = value;
    else if (head == "options" && head != key)
      out.settings["model.attention." + key.substr(head.size() + 1)] = value;
    else if (std::find(kSections.begin(), kSections.end(), head) != kSections.end())
      out.settings[key] = value;
    else
      refuse(value, "mechanism." + key,
             "name, attention, options, lr or a section of a training configuration", "no such key",
             did_you_mean(head, kSections));
  }
  if (out.name.empty())
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading " + document_.source,
                 .subject = "mechanism",
                 .expected = "a name for each",
                 .found = "none"});
  return out;
}

StudyTest StudyReader::read_test(const Entry& entry) const {
  StudyTest out;
  for (const auto& [key, value] : entry) {
    const std::string head = key.substr(0, key.find('.'));
    const std::string rest = head == key ? "" : key.substr(head.size() + 1);
    if (key == "name")
      out.name = text(value, "test.name");
    else if (key == "sequences")
      out.sequences = whole(value, "test.sequences");
    else if (key == "length")
      out.length = whole(value, "test.length");
    else if (key == "stride")
      out.stride = whole(value, "test.stride");
    else if (key == "only")
      out.only = words(value, "test.only");
    else if (head == "task" && !rest.empty())
      out.task[rest] = option_value(value);
    else if (head == "attention" && !rest.empty())
      out.attention[rest] = option_value(value);
    else
      refuse(value, "test." + key, "name, sequences, length, stride, task, attention or only",
             "no such key");
  }
  if (out.name.empty())
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading " + document_.source,
                 .subject = "test",
                 .expected = "a name for each",
                 .found = "none"});
  return out;
}

void StudyReader::read() {
  read_study(take("study."));
  for (size_t i = 0;; ++i) {
    const Entry entry = take("mechanism." + std::to_string(i) + ".");
    if (entry.empty()) break;
    study_.mechanisms.push_back(read_mechanism(entry));
  }
  for (size_t i = 0;; ++i) {
    const Entry entry = take("test." + std::to_string(i) + ".");
    if (entry.empty()) break;
    study_.tests.push_back(read_test(entry));
  }
  study_.training = std::move(document_);
}

template <class Named>
std::vector<std::string> names_of(const std::vector<Named>& things) {
  std::vector<std::string> names;
  for (const Named& thing : things) names.push_back(thing.name);
  return names;
}

template <class Named>
void require_different_names(const Study& study, const std::vector<Named>& things,
                             const std::string& what) {
  std::vector<std::string> names = names_of(things);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end())
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading the study " + study.name,
                 .subject = what,
                 .expected = "different names",
                 .found = "two of \"" + *twice + "\""});
}

StudyMechanism bare_room(const std::string& name) {
  return {.name = name, .settings = {{"model.attention.mechanism", {name}}}, .lr = {}};
}

// The rows that were asked for, in the order of the request.
void choose_mechanisms(const std::vector<std::string>& wanted, Study& study) {
  const std::vector<std::string> rooms = attention_names();
  if (wanted.empty()) {
    if (study.mechanisms.empty())
      for (const std::string& room : rooms) study.mechanisms.push_back(bare_room(room));
    return;
  }
  std::vector<StudyMechanism> chosen;
  for (const std::string& name : wanted) {
    const auto entry = std::find_if(study.mechanisms.begin(), study.mechanisms.end(),
                                    [&](const StudyMechanism& m) { return m.name == name; });
    if (entry != study.mechanisms.end()) {
      chosen.push_back(*entry);
    } else if (std::find(rooms.begin(), rooms.end(), name) != rooms.end()) {
      chosen.push_back(bare_room(name));
    } else {
      std::vector<std::string> known = names_of(study.mechanisms);
      known.insert(known.end(), rooms.begin(), rooms.end());
      std::string list;
      for (const std::string& word : known) list += (list.empty() ? "" : ", ") + word;
      throw Error({.kind = ErrorKind::usage,
                   .doing = "choosing mechanisms of the study " + study.name,
                   .expected = "some of " + list,
                   .found = name,
                   .hint = did_you_mean(name, known)});
    }
  }
  study.mechanisms = std::move(chosen);
}

}  // namespace

bool StudyTest::taken_by(const std::string& mechanism) const {
  return only.empty() || std::find(only.begin(), only.end(), mechanism) != only.end();
}

Study load_study(const StudyRequest& request) {
  Study study;
  study.name = request.file.empty() ? request.task : request.file.stem().string();
  TomlDocument document{.source = "the command line", .values = {}};
  if (!request.file.empty()) document = read_toml_with_includes(request.file);
  StudyReader(std::move(document), study).read();
  if (!request.task.empty()) study.training.values["data.task.name"] = {request.task};
  if (request.seeds > 0) study.seeds = request.seeds;
  study.overrides = request.overrides;
  choose_mechanisms(request.mechanisms, study);
  if (study.tests.empty()) study.tests.push_back({.name = "as trained"});
  require_different_names(study, study.mechanisms, "mechanism");
  require_different_names(study, study.tests, "test");
  return study;
}

}  // namespace cairn
