#include "cairn/eval/attention_picture.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "cairn/text/char_classes.h"

namespace cairn {
namespace {

// Points.
constexpr double kMargin = 24, kTitle = 20, kText = 12, kSmall = 10;
constexpr double kCharacter = 0.61;  // width of a character by its height, monospaced

struct Colour {
  double red, green, blue;
};
std::string hex(const Colour& c) {
  return fmt::format("#{:02x}{:02x}{:02x}", static_cast<int>(std::lround(c.red)),
                     static_cast<int>(std::lround(c.green)), static_cast<int>(std::lround(c.blue)));
}

// Colours between fixed ones at equal distances; dark enough at the end for white letters.
using Ramp = std::array<Colour, 5>;
constexpr Ramp kBlue = {
    {{247, 251, 255}, {198, 219, 239}, {107, 174, 214}, {33, 113, 181}, {8, 48, 107}}};
constexpr Ramp kOrange = {
    {{255, 250, 242}, {254, 217, 166}, {253, 159, 81}, {217, 95, 14}, {127, 39, 4}}};
constexpr Ramp kBothWays = {
    {{118, 42, 131}, {194, 165, 207}, {247, 247, 247}, {166, 219, 160}, {0, 90, 50}}};

Colour at(const Ramp& ramp, double part) {
  const double place = std::clamp(part, 0.0, 1.0) * (ramp.size() - 1);
  const size_t first = std::min<size_t>(static_cast<size_t>(place), ramp.size() - 2);
  const double rest = place - static_cast<double>(first);
  const auto mix = [&](double a, double b) { return a + rest * (b - a); };
  return {mix(ramp[first].red, ramp[first + 1].red), mix(ramp[first].green, ramp[first + 1].green),
          mix(ramp[first].blue, ramp[first + 1].blue)};
}

// How values of one kind become colours.
struct Scale {
  std::string name, meaning;
  const Ramp* ramp = &kBlue;
  double lowest = 0, highest = 1;
  bool root = false;  // small values are spread

  double part(double value) const {
    const double linear = (value - lowest) / (highest - lowest);
    return root ? std::sqrt(std::max(linear, 0.0)) : linear;
  }
  double value(double part) const {
    return lowest + (highest - lowest) * (root ? part * part : part);
  }
  // In 64 steps, so that neighbours often have one colour.
  Colour colour(double v) const { return at(*ramp, std::round(64 * part(v)) / 64); }
  bool dark(double v) const {
    const Colour c = colour(v);
    return 0.3 * c.red + 0.59 * c.green + 0.11 * c.blue < 140;
  }
};

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (static_cast<unsigned char>(c) >= 0x20)
      out += c;
  }
  return is_utf8(out) ? out : "?";
}

size_t characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

// The beginning of a text that is longer than `most` characters.
std::string shortened(const std::string& text, size_t most) {
  if (characters(text) <= most) return text;
  size_t bytes = 0, seen = 0;
  while (bytes < text.size()) {
    if ((text[bytes] & 0xc0) != 0x80 && ++seen == most) break;
    ++bytes;
  }
  return text.substr(0, bytes) + "…";
}

// The picture as it grows.
class Canvas {
 public:
  void rectangle(double x, double y, double width, double height, const std::string& fill) {
    reach(x + width, y + height);
    body_ += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
        "fill=\"{}\"/>\n",
        x, y, width, height, fill);
  }
  void frame(double x, double y, double width, double height, const std::string& stroke) {
    reach(x + width, y + height);
    body_ += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
        "fill=\"none\" stroke=\"{}\"/>\n",
        x, y, width, height, stroke);
  }
  // The axes of a matrix: down on the left, then to the right.
  void axes(double x, double y, double side) {
    reach(x + side, y + side);
    body_ +=
        fmt::format("<path d=\"M{:.1f} {:.1f}v{:.1f}h{:.1f}\" fill=\"none\" stroke=\"#bbb\"/>\n", x,
                    y, side, side);
  }
  enum class Anchor { start, middle, end };
  // `turned`: read upwards from (x, y).
  void text(double x, double y, double size, const std::string& words,
            Anchor anchor = Anchor::start, const std::string& fill = "#222", bool turned = false) {
    constexpr std::array kAnchors = {"start", "middle", "end"};
    const double length = kCharacter * size * static_cast<double>(characters(words));
    if (!turned && anchor == Anchor::start) reach(x + length, y);
    body_ += fmt::format(
        "<text x=\"{0:.1f}\" y=\"{1:.1f}\" font-size=\"{2}\" text-anchor=\"{3}\" "
        "fill=\"{4}\"{5}>{6}</text>\n",
        x, y, size, kAnchors[static_cast<size_t>(anchor)], fill,
        turned ? fmt::format(" transform=\"rotate(-90 {:.1f} {:.1f})\"", x, y) : "",
        escaped(words));
  }
  std::string finish() const {
    const double width = width_ + kMargin, height = height_ + kMargin;
    return fmt::format(
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
               "viewBox=\"0 0 {0:.0f} {1:.0f}\" shape-rendering=\"crispEdges\" "
               "xml:space=\"preserve\" "
               "font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\">\n"
               "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
               width, height) +
           body_ + "</svg>\n";
  }

 private:
  void reach(double x, double y) {
    width_ = std::max(width_, x);
    height_ = std::max(height_, y);
  }
  std::string body_;
  double width_ = 0, height_ = 0;
};

// What is drawn of a panel: its weights, or an extra.
struct Sheet {
  const AttentionWeights* weights = nullptr;
  const std::vector<double>* values = nullptr;
  const Scale* scale = nullptr;
};

class Painter {
 public:
  explicit Painter(const AttentionPicture& picture)
      : picture_(picture), tokens_(picture.tokens.size()) {
    const std::vector<AttentionPanel>& panels = picture.panels;
    for (size_t n = 1; n < panels.size(); ++n)
      extras_ = extras_ && (picture.query || panels[n].layer != panels[n - 1].layer);
    make_scales();
    longest_ = 1;
    for (std::string& label : labels_ = picture.tokens) {
      label = shortened(label, kLongestLabel);
      longest_ = std::max(longest_, characters(label));
    }
  }

  std::string draw() {
    canvas_.text(kMargin, kMargin + kTitle, kTitle, picture_.title);
    top_ = kMargin + kTitle + 20;
    if (picture_.query)
      draw_rows();
    else
      draw_matrices();
    draw_legend();
    return canvas_.finish();
  }

 private:
  static constexpr size_t kLongestLabel = 14;
  static constexpr size_t kMostColumns = 8;     // of matrices
  static constexpr size_t kMostCells = 150000;  // of all matrices together
  static constexpr double kReadable = 11;       // width of a cell that has room for letters

  void make_scales();
  const Scale& scale_of(const std::string& extra) const;
  std::vector<Sheet> sheets_of(const AttentionPanel& panel) const;
  double label_length() const { return kCharacter * kText * static_cast<double>(longest_); }
  void draw_rows();
  double draw_row(const Sheet& sheet, const std::string& name, double y, double height);
  void draw_matrices();
  void draw_matrix(const Sheet& sheet, double x, double y);
  void draw_labels(double x, double y, bool queries);
  double largest_in(const Sheet& sheet, size_t row, size_t column) const;
  void draw_legend();

  const AttentionPicture& picture_;
  const size_t tokens_;
  std::vector<std::string> labels_;
  size_t longest_ = 1;
  bool extras_ = true;         // whether they are drawn
  std::vector<Scale> scales_;  // of weights, then of every kind of extra
  Canvas canvas_;
  double top_ = 0, left_ = 0, cell_ = 0;
  size_t together_ = 1, cells_ = 0;  // tokens of a cell of a matrix; cells of its side
};

void Painter::make_scales() {
  double highest = 0;
  std::vector<Scale> extras;
  for (const AttentionPanel& panel : picture_.panels) {
    const AttentionWeights& w = panel.weights;
    for (size_t query = 0; query < tokens_; ++query)
      for (size_t key = 0; key <= query; ++key)
        if (!picture_.query || *picture_.query == query)
          highest = std::max(highest, w.weights[w.at(0, query, key)]);
    for (const AttentionWeights::Extra& extra : w.extras) {
      const bool known = std::any_of(extras.begin(), extras.end(),
                                     [&](const Scale& scale) { return scale.name == extra.name; });
      if (!known && extras_)
        extras.push_back({extra.name, extra.meaning, extra.lowest < 0 ? &kBothWays : &kOrange,
                          extra.lowest, 1, false});
    }
  }
  scales_.push_back({"weight", "", &kBlue, 0, highest > 0 ? highest : 1, true});
  scales_.insert(scales_.end(), extras.begin(), extras.end());
}

const Scale& Painter::scale_of(const std::string& extra) const {
  return *std::find_if(scales_.begin() + 1, scales_.end(),
                       [&](const Scale& scale) { return scale.name == extra; });
}

std::vector<Sheet> Painter::sheets_of(const AttentionPanel& panel) const {
  std::vector<Sheet> sheets = {{&panel.weights, &panel.weights.weights, &scales_.front()}};
  for (const AttentionWeights::Extra& extra : panel.weights.extras)
    if (extras_) sheets.push_back({&panel.weights, &extra.values, &scale_of(extra.name)});
  return sheets;
}

// ---- the row of one token

void Painter::draw_rows() {
  const size_t query = *picture_.query, keys = query + 1;
  cell_ = std::clamp(1100.0 / static_cast<double>(keys), 2.0, 26.0);
  cell_ = std::floor(cell_);  // edges on whole points: no seams
  size_t longest_name = 0;
  for (const AttentionPanel& panel : picture_.panels)
    longest_name = std::max(longest_name, characters(panel.name));
  left_ = kMargin + kCharacter * kText * static_cast<double>(longest_name) + 10;
  top_ += label_length() + 8;
  const size_t step = cell_ >= kReadable ? 1 : static_cast<size_t>(std::ceil(kReadable / cell_));
  for (size_t key = 0; key < keys; key += step)
    canvas_.text(left_ + (static_cast<double>(key) + 0.5) * cell_ + 4, top_ - 6, kText,
                 labels_[key], Canvas::Anchor::start, key == query ? "#b00" : "#222", true);
  double y = top_;
  for (size_t n = 0; n < picture_.panels.size(); ++n) {
    const AttentionPanel& panel = picture_.panels[n];
    if (n > 0 && panel.layer != picture_.panels[n - 1].layer) y += 6;
    for (const Sheet& sheet : sheets_of(panel)) {
      const bool main = sheet.scale == &scales_.front();
      y = draw_row(sheet, main ? panel.name : sheet.scale->name, y, main ? 20 : 11);
    }
    if (!panel.weights.extras.empty()) y += 5;
  }
  canvas_.frame(left_ + static_cast<double>(query) * cell_, top_, cell_, y - top_, "#b00");
  top_ = y;
}

// Returns where the next one goes.
double Painter::draw_row(const Sheet& sheet, const std::string& name, double y, double height) {
  const size_t query = *picture_.query;
  const bool main = sheet.scale == &scales_.front();
  canvas_.text(left_ - 8, y + 0.5 * height + 4, main ? kText : kSmall, name, Canvas::Anchor::end,
               main ? "#222" : "#777");
  for (size_t key = 0; key <= query; ++key) {
    const double value = (*sheet.values)[sheet.weights->at(0, query, key)];
    const double x = left_ + static_cast<double>(key) * cell_;
    canvas_.rectangle(x, y, cell_, height - 1, hex(sheet.scale->colour(value)));
    if (main && cell_ >= 20 && value >= 0.1)  // in hundredths
      canvas_.text(x + 0.5 * cell_, y + 0.5 * height + 3, kSmall,
                   fmt::format("{:.0f}", 100 * value), Canvas::Anchor::middle,
                   sheet.scale->dark(value) ? "#fff" : "#222");
  }
  return y + height;
}

// ---- whole matrices

double Painter::largest_in(const Sheet& sheet, size_t row, size_t column) const {
  double largest = sheet.scale->lowest;
  for (size_t query = row * together_; query < std::min(tokens_, (row + 1) * together_); ++query)
    for (size_t key = column * together_; key < std::min(query + 1, (column + 1) * together_);
         ++key)
      largest = std::max(largest, (*sheet.values)[sheet.weights->at(0, query, key)]);
  return largest;
}

void Painter::draw_matrix(const Sheet& sheet, double x, double y) {
  for (size_t row = 0; row < cells_; ++row)
    for (size_t column = 0; column <= row;) {  // runs of one colour are one rectangle
      const std::string fill = hex(sheet.scale->colour(largest_in(sheet, row, column)));
      size_t end = column + 1;
      while (end <= row && hex(sheet.scale->colour(largest_in(sheet, row, end))) == fill) ++end;
      canvas_.rectangle(x + static_cast<double>(column) * cell_,
                        y + static_cast<double>(row) * cell_,
                        static_cast<double>(end - column) * cell_, cell_, fill);
      column = end;
    }
  canvas_.axes(x, y, static_cast<double>(cells_) * cell_);
}

// Of queries on the left or of keys on top, where there is room.
void Painter::draw_labels(double x, double y, bool queries) {
  if (cell_ < kReadable || together_ > 1) return;
  for (size_t token = 0; token < tokens_; ++token) {
    const double middle = (static_cast<double>(token) + 0.5) * cell_ + 4;
    if (queries)
      canvas_.text(x - 6, y + middle, kText, labels_[token], Canvas::Anchor::end);
    else
      canvas_.text(x + middle, y - 6, kText, labels_[token], Canvas::Anchor::start, "#222", true);
  }
}

void Painter::draw_matrices() {
  struct Place {
    Sheet sheet;
    std::string name;
    size_t layer;
  };
  std::vector<Place> places;
  for (const AttentionPanel& panel : picture_.panels)
    for (const Sheet& sheet : sheets_of(panel)) {
      const bool main = sheet.scale == &scales_.front();
      places.push_back({sheet, main ? panel.name : sheet.scale->name, panel.layer});
    }
  const size_t most =
      static_cast<size_t>(std::sqrt(2.0 * kMostCells / static_cast<double>(places.size())));
  together_ = (tokens_ + most - 1) / most;
  cells_ = (tokens_ + together_ - 1) / together_;
  const double side = places.size() == 1 ? 640 : places.size() <= 4 ? 400 : 190;
  cell_ = std::clamp(side / static_cast<double>(cells_), 1.0, places.size() <= 4 ? 24.0 : 14.0);
  if (cell_ >= 2) cell_ = std::floor(cell_);
  const bool labelled = cell_ >= kReadable && together_ == 1;
  const double width = static_cast<double>(cells_) * cell_;
  const double before = labelled ? label_length() + 8 : 0;
  double x = kMargin, y = top_ + kText, row_end = y;
  size_t column = 0;
  for (size_t n = 0; n < places.size(); ++n) {
    if (column == kMostColumns || (n > 0 && places[n].layer != places[n - 1].layer)) {
      x = kMargin;
      y = row_end + 26;
      column = 0;
    }
    canvas_.text(x + before, y, kText, places[n].name);
    const double corner = y + before + 6;
    draw_labels(x + before, corner, true);
    draw_labels(x + before, corner, false);
    draw_matrix(places[n].sheet, x + before, corner);
    row_end = corner + width;
    const double named = kCharacter * kText * static_cast<double>(characters(places[n].name));
    x += before + std::max(width, named) + 22;
    ++column;
  }
  top_ = row_end;
}

// ---- legend

void Painter::draw_legend() {
  double y = top_ + 34;
  constexpr double kWidth = 260, kHeight = 12;
  for (const Scale& scale : scales_) {
    std::string words = scale.name;
    if (!scale.meaning.empty()) words += ": " + scale.meaning;
    if (&scale == &scales_.front()) {
      words += picture_.query
                   ? ": what the token in red gives to each token up to it"
                   : ": what each token (downwards) gives to those up to it (to the right)";
      if (together_ > 1)
        words += fmt::format("; a cell is {0} x {0} tokens and shows the largest", together_);
    }
    canvas_.text(kMargin, y, kText, words);
    constexpr int kSteps = 52;
    for (int i = 0; i < kSteps; ++i)
      canvas_.rectangle(kMargin + i * kWidth / kSteps, y + 7, kWidth / kSteps + 0.3, kHeight,
                        hex(at(*scale.ramp, (i + 0.5) / kSteps)));
    for (const double part : {0.0, 0.25, 0.5, 0.75, 1.0})
      canvas_.text(kMargin + part * kWidth, y + 7 + kHeight + 12, kSmall,
                   fmt::format("{:.2g}", scale.value(part)),
                   part == 0 ? Canvas::Anchor::start : Canvas::Anchor::middle, "#555");
    y += 7 + kHeight + 34;
  }
  canvas_.rectangle(kMargin, y - 24, 0, 0, "none");  // the last numbers belong to the picture
}

}  // namespace

std::string draw_attention(const AttentionPicture& picture) {
  return Painter(picture).draw();
}

}  // namespace cairn
