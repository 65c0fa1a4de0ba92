// `cairn bench draw`: pictures of what `bench ablation` and `bench decode` have printed.
#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/cli/bench.h"
#include "cairn/io/json.h"
#include "cairn/runs/gnuplot.h"

namespace cairn {
namespace {

struct Options {
  std::vector<std::string> results;
  std::string output = "decode";
  bool json = false;
};

struct Lines {
  std::vector<Json> ablation, decode;
};

Lines read_lines(const std::vector<std::string>& files) {
  Lines lines;
  for (const std::string& file : files) {
    const std::string text = read_file(file);
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      if (end > begin) {
        const Json line = parse_json(std::string_view(text).substr(begin, end - begin), file);
        const std::string bench = line.is_object() ? line.value("bench", "") : "";
        if (bench == "ablation") lines.ablation.push_back(line);
        if (bench == "decode") lines.decode.push_back(line);
      }
      begin = end + 1;
    }
  }
  if (lines.ablation.empty() && lines.decode.empty())
    throw Error({.kind = ErrorKind::data,
                 .doing = "drawing results",
                 .expected = "lines that cairn bench ablation --json or decode --json printed",
                 .found = "none"});
  return lines;
}

std::string text_of(const Json& line, const char* key) {
  return line.at(key).get<std::string>();
}
double number_of(const Json& line, const char* key) {
  return line.at(key).get<double>();
}
double roofline_of(const Json& line) {
  return 1e9 * number_of(line, "bandwidth_gbs") / number_of(line, "bytes");
}

// Where each value of something stands in a picture: in the order in which lines bring them.
class Places {
 public:
  size_t of(const std::string& name) {
    const auto place =
        static_cast<size_t>(std::find(names_.begin(), names_.end(), name) - names_.begin());
    if (place == names_.size()) names_.push_back(name);
    return place;
  }
  const std::vector<std::string>& names() const { return names_; }
  // "set xtics" and a range with room for a group at each.
  std::string axis() const {
    std::string tics;
    for (size_t i = 0; i < names_.size(); ++i)
      tics += fmt::format("{}{} {}", i == 0 ? "" : ", ", quoted_for_gnuplot(names_[i]), i);
    return fmt::format("set xtics ({}) noenhanced\nset xrange [-0.6:{}.6]\n", tics,
                       names_.size() - 1);
  }

 private:
  std::vector<std::string> names_;
};

// Bar `index` of `count` in the group at `group`.
double bar_at(size_t group, size_t index, size_t count) {
  return static_cast<double>(group) +
         (static_cast<double>(index) - (static_cast<double>(count) - 1) / 2) * 0.8 /
             static_cast<double>(count);
}

constexpr int kWidth = 800, kPanel = 300;

// Tokens a second of each model and format behind the fewest tokens, and what memory allows.
std::string speed_script(const Lines& lines, const std::string& terminal, const Path& path) {
  double depth = 0;
  Places models, formats;
  for (const Json& line : lines.ablation) {
    depth = depth == 0 ? number_of(line, "depth") : std::min(depth, number_of(line, "depth"));
    models.of(text_of(line, "model"));
    formats.of(text_of(line, "format"));
  }
  const size_t count = formats.names().size();
  std::map<size_t, std::string> bars;
  for (const Json& line : lines.ablation) {
    if (number_of(line, "depth") != depth) continue;
    const size_t format = formats.of(text_of(line, "format"));
    bars[format] += fmt::format("{:.3f} {:.6g} {:.6g}\n",
                                bar_at(models.of(text_of(line, "model")), format, count),
                                number_of(line, "tokens_per_second"), roofline_of(line));
  }
  const double width = 0.72 / static_cast<double>(count);
  std::string script = plot_head(terminal, kWidth, kPanel + 60, path);
  std::vector<std::string> plots;
  for (const auto& [format, data] : bars) {
    script += fmt::format("$format{} << EOD\n{}EOD\n", format, data);
    plots.push_back(plot_curve(fmt::format("format{}", format), "boxes", plot_colour(format),
                               formats.names()[format]));
  }
  for (const auto& [format, data] : bars)
    plots.push_back(fmt::format(
        "$format{} using ($1-{}):3:({}):(0) with vectors nohead lw 3 lc rgb '#303030' {}", format,
        width / 2, width, format + 1 == count ? "title 'bytes over bandwidth'" : "notitle"));
  return script + models.axis() +
         fmt::format(
             "set style fill solid 0.85 noborder\nset boxwidth {}\nset logscale y\n"
             "set ylabel 'tokens a second, {} before'\nset key top right\n{}unset output\n",
             width, depth, plot_command(plots));
}

// What all parts up to each have gained over a program with none, a panel a format.
std::string ablation_script(const Lines& lines, const std::string& terminal, const Path& path) {
  Places groups, formats, parts;
  std::map<std::pair<size_t, size_t>, std::string> bars;  // (format, part)
  for (const Json& line : lines.ablation) {
    const size_t format = formats.of(text_of(line, "format"));
    const size_t group =
        groups.of(fmt::format("{}, {:g}", text_of(line, "model"), number_of(line, "depth")));
    const Json& steps = line.at("steps");
    for (size_t s = 1; s < steps.size(); ++s) {
      const double gain = number_of(steps[0], "ms") / number_of(steps[s], "ms") - 1;
      bars[{format, parts.of("+ " + text_of(steps[s], "part"))}] +=
          fmt::format("{:.3f} {:.5g}\n", bar_at(group, s - 1, steps.size() - 1), 100 * gain);
    }
  }
  const size_t panels = formats.names().size();
  std::string script = plot_head(terminal, kWidth, static_cast<int>(panels) * kPanel, path);
  for (const auto& [key, data] : bars)
    script += fmt::format("$bars{}part{} << EOD\n{}EOD\n", key.first, key.second, data);
  script += groups.axis() +
            fmt::format(
                "set style fill solid 0.85 noborder\nset boxwidth {}\nset multiplot layout {},1\n"
                "set xtics scale 0\nset ylabel 'gain, percent'\nset xzeroaxis lt 1 lc rgb '#8a8a8a'"
                "\nset key tmargin center horizontal\nset yrange [*<0:*]\n",
                0.74 / static_cast<double>(parts.names().size()), panels);
  for (size_t format = 0; format < panels; ++format) {
    std::vector<std::string> plots;
    for (size_t part = 0; part < parts.names().size(); ++part)
      plots.push_back(plot_curve(fmt::format("bars{}part{}", format, part), "boxes",
                                 plot_colour(part), format == 0 ? parts.names()[part] : ""));
    script += fmt::format("set title {} noenhanced\n", quoted_for_gnuplot(formats.names()[format]));
    if (format + 1 == panels) script += "set xlabel 'model, tokens before'\n";
    script += plot_command(plots);
  }
  return script + "unset multiplot\nunset output\n";
}

// "135m q4_0", and what is not usual: the mechanism, the type of keys and values.
std::string curve_of(const Json& line) {
  std::string name = text_of(line, "model") + " " + text_of(line, "format");
  const std::string mechanism = line.value("mechanism", "softmax");
  const std::string cache = line.value("cache_type", "f16");
  if (mechanism != "softmax") name += ", " + mechanism;
  if (cache != "f16") name += ", cache " + cache;
  return name;
}

// Tokens a second over the tokens before; dashed: what memory allows. A logarithm has no 0.
std::string depth_script(const Lines& lines, const std::string& terminal, const Path& path) {
  Places curves;
  std::map<size_t, Series> speeds, limits;
  for (const Json& line : lines.decode) {
    if (number_of(line, "depth") < 1) continue;
    const size_t curve = curves.of(curve_of(line));
    for (Series* series : {&speeds[curve], &limits[curve]})
      series->x.push_back(number_of(line, "depth"));
    speeds[curve].y.push_back(number_of(line, "tokens_per_second"));
    limits[curve].y.push_back(roofline_of(line));
  }
  std::string script = plot_head(terminal, kWidth, kPanel + 60, path);
  std::vector<std::string> plots;
  for (size_t i = 0; i < curves.names().size(); ++i) {
    add_plot_data(script, fmt::format("speed{}", i), speeds[i], 1);
    add_plot_data(script, fmt::format("limit{}", i), limits[i], 1);
    plots.push_back(plot_curve(fmt::format("speed{}", i), "linespoints lw 2 pt 7 ps 0.6",
                               plot_colour(i), curves.names()[i]));
    plots.push_back(plot_curve(fmt::format("limit{}", i), "lines lw 1.2 dt 2", plot_colour(i), ""));
  }
  return script +
         "set logscale x 2\nset yrange [0:*]\nset xlabel 'tokens before'\n"
         "set ylabel 'tokens a second'\nset title 'dashed: bytes over bandwidth'\n" +
         plot_command(plots) + "unset output\n";
}

int run_draw(const Options& options) {
  const Lines lines = read_lines(options.results);
  std::vector<Path> written;
  const auto draw = [&](const char* name, const auto& script) {
    const auto more =
        draw_pictures(options.output + name, [&](const std::string& terminal, const Path& path) {
          return script(lines, terminal, path);
        });
    written.insert(written.end(), more.begin(), more.end());
  };
  if (!lines.ablation.empty()) {
    draw("-speed", speed_script);
    draw("-ablation", ablation_script);
  }
  if (!lines.decode.empty()) draw("-depth", depth_script);
  Json files = Json::array();
  for (const Path& path : written) {
    files.push_back(path.string());
    if (!options.json) fmt::print("{}\n", path.string());
  }
  if (options.json) fmt::print("{}", json_line({{"files", files}}));
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.positionals("RESULTS", "files of JSON lines", options->results);
  arguments.option("--output", "how the files' names begin: OUTPUT-speed.svg, ...",
                   options->output);
  arguments.flag("--json", "print the files as JSON", options->json);
  return [options] { return run_draw(*options); };
}

}  // namespace

const Verb kBenchDrawVerb{
    .name = "draw",
    .does = "Draw what bench ablation and bench decode have printed with --json",
    .example = "cairn bench draw ablation.jsonl decode.jsonl --output pictures/decode",
    .prepare = prepare};

}  // namespace cairn
