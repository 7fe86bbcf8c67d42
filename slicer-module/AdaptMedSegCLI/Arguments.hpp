// The command line, as hosts of the Slicer Execution Model write it: `--name value` or `--name=value`, bare flags, and
// last the files without a flag. AdaptMedSegCLI.xml describes the same parameters; a test compares the two.
//
// SPDX-License-Identifier: Apache-2.0

#ifndef ADAPTMEDSEG_CLI_ARGUMENTS_HPP
#define ADAPTMEDSEG_CLI_ARGUMENTS_HPP

#include "Failure.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <locale>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace cli {

struct Point {
    adaptmedseg::Vector ras;
    adaptmedseg::PointLabel label;
};

/// A box along the axes of the RAS world, in millimetres.
struct Box {
    adaptmedseg::Vector centre;
    adaptmedseg::Vector half_size;
    /// Whether it encloses a region that was rotated.
    bool encloses_rotated = false;
};

struct Arguments {
    std::string image;
    std::string label_map;
    std::string return_parameters;
    std::optional<std::string> text;
    std::vector<Point> points;
    std::optional<Box> box;
    std::string model = "builtin";
    std::string adapter;
    std::optional<std::string> task;
    adaptmedseg::Modality modality = adaptmedseg::Modality::unknown;
    adaptmedseg::Mode mode = adaptmedseg::Mode::standard;
    std::string device = "auto";
    std::uint32_t threads = 0;
    std::uint8_t label = 1;
};

namespace detail {

/// A whole text as one number, whatever the user's locale is.
inline double number(const std::string &text) {
    std::istringstream stream(text);
    stream.imbue(std::locale::classic());
    double value = 0.0;
    if (!(stream >> value) || !(stream >> std::ws).eof()) {
        throw Failure(Code::usage, '"' + text + "\" is not a number");
    }
    return value;
}

inline std::uint32_t integer(const std::string &text, std::uint32_t minimum, std::uint32_t maximum) {
    const double value = number(text);
    if (!(value >= minimum && value <= maximum) || value != static_cast<std::uint32_t>(value)) {
        throw Failure(Code::usage, '"' + text + "\" is not a whole number from " + std::to_string(minimum) + " to " +
                                       std::to_string(maximum));
    }
    return static_cast<std::uint32_t>(value);
}

inline std::vector<double> numbers(const std::string &text) {
    std::vector<double> values;
    for (std::size_t start = 0; start <= text.size();) {
        const std::size_t comma = std::min(text.find(',', start), text.size());
        values.push_back(number(text.substr(start, comma - start)));
        start = comma + 1;
    }
    return values;
}

inline Point point(const std::string &text, adaptmedseg::PointLabel label) {
    const auto values = numbers(text);
    if (values.size() != 3) {
        throw Failure(Code::usage, std::to_string(values.size()) + " numbers where 3 are needed: x,y,z");
    }
    return {{values[0], values[1], values[2]}, label};
}

/// Centre and half sizes; of a rotated region also its axes, as the columns of a matrix that is written row by row.
inline Box box(const std::string &text) {
    const auto values = numbers(text);
    if (values.size() != 6 && values.size() != 15) {
        throw Failure(Code::usage,
                      std::to_string(values.size()) + " numbers where 6 are needed: x,y,z, then half of each size");
    }
    Box box{{values[0], values[1], values[2]}, {values[3], values[4], values[5]}};
    if (values.size() == 15) {
        box.encloses_rotated = true;
        for (std::size_t row = 0; row < 3; ++row) {
            box.half_size[row] = 0.0;
            for (std::size_t axis = 0; axis < 3; ++axis) {
                box.half_size[row] += std::abs(values[6 + 3 * row + axis]) * values[3 + axis];
            }
        }
    }
    return box;
}

template <typename T>
T choice(const std::string &text, std::initializer_list<std::pair<const char *, T>> choices) {
    std::string known;
    for (const auto &[name, value] : choices) {
        if (text == name) return value;
        known += (known.empty() ? "" : ", ") + std::string(name);
    }
    throw Failure(Code::usage, '"' + text + "\" is none of " + known);
}

/// What a flag with a value does.
using Setter = std::function<void(Arguments &, const std::string &)>;

inline const std::map<std::string, Setter> &flags() {
    using namespace adaptmedseg;
    const Setter ignored = [](Arguments &, const std::string &) {};
    static const std::map<std::string, Setter> table{
        {"text", [](auto &to, auto &value) { to.text = value; }},
        {"positivePoints", [](auto &to, auto &value) { to.points.push_back(point(value, PointLabel::positive)); }},
        {"negativePoints", [](auto &to, auto &value) { to.points.push_back(point(value, PointLabel::negative)); }},
        {"box", [](auto &to, auto &value) { to.box = box(value); }},
        {"model", [](auto &to, auto &value) { to.model = value; }},
        {"adapter", [](auto &to, auto &value) { to.adapter = value; }},
        {"task", [](auto &to, auto &value) { to.task = value; }},
        {"modality",
         [](auto &to, auto &value) {
             to.modality = choice<Modality>(
                 value, {{"unknown", Modality::unknown}, {"CT", Modality::ct}, {"MR", Modality::mr}});
         }},
        {"mode",
         [](auto &to, auto &value) {
             to.mode = choice<Mode>(value, {{"default", Mode::standard}, {"reference", Mode::reference}});
         }},
        {"device", [](auto &to, auto &value) { to.device = value; }},
        {"threads", [](auto &to, auto &value) { to.threads = integer(value, 0, 65535); }},
        {"label", [](auto &to, auto &value) { to.label = static_cast<std::uint8_t>(integer(value, 1, 255)); }},
        {"returnparameterfile", [](auto &to, auto &value) { to.return_parameters = value; }},
        // Hosts add these to every module.
        {"processinformationaddress", ignored},
        {"logLevel", ignored},
    };
    return table;
}

inline bool is_repeatable(const std::string &name) { return name == "positivePoints" || name == "negativePoints"; }

/// One `--name`, with its value, at `index`; leaves `index` at the last word used.
inline void take_flag(Arguments &arguments, const std::vector<std::string> &words, std::size_t &index,
                      std::set<std::string> &seen) {
    const std::size_t equals = words[index].find('=');
    const std::string flag = words[index].substr(0, equals), name = flag.substr(2);
    if (flag == "--echo") return; // from hosts too; without a value
    const auto found = flags().find(name);
    if (found == flags().end()) {
        throw Failure(Code::usage, "unknown argument " + flag, "--help lists the arguments");
    }
    if (equals == std::string::npos && index + 1 == words.size()) {
        throw Failure(Code::usage, flag + " has no value", "--help lists the arguments");
    }
    if (!seen.insert(name).second && !is_repeatable(name)) {
        throw Failure(Code::usage, flag + " is given twice", "give it once");
    }
    const std::string value = equals == std::string::npos ? words[++index] : words[index].substr(equals + 1);
    try {
        found->second(arguments, value);
    } catch (const Failure &failure) {
        throw Failure(failure.code(), flag + ": " + failure.what(), "--help explains the arguments");
    }
}

inline void check(const Arguments &arguments, std::size_t files) {
    if (files != 2) {
        throw Failure(Code::usage,
                      std::to_string(files) + " file names where 2 are needed: the image and the label map",
                      "AdaptMedSegCLI [arguments] inputVolume outputVolume");
    }
    if (!arguments.text && arguments.points.empty() && !arguments.box) {
        throw Failure(Code::usage, "no prompt", "give a name, a point in the structure, or a box around it");
    }
    if (arguments.task && arguments.adapter.empty()) {
        throw Failure(Code::usage, "--task is for an adapter, and there is none",
                      "give --adapter, or leave --task out");
    }
}

} // namespace detail

/// Reads the words after the program's name; throws a Failure that says what is wrong with them.
inline Arguments parse(const std::vector<std::string> &words) {
    Arguments arguments;
    std::set<std::string> seen;
    std::vector<std::string> files;
    for (std::size_t index = 0; index < words.size(); ++index) {
        if (words[index].rfind("--", 0) == 0) {
            detail::take_flag(arguments, words, index, seen);
        } else if (words[index].size() > 1 && words[index][0] == '-') {
            throw Failure(Code::usage, "unknown argument " + words[index], "--help lists the arguments");
        } else {
            files.push_back(words[index]);
        }
    }
    detail::check(arguments, files.size());
    arguments.image = files[0];
    arguments.label_map = files[1];
    return arguments;
}

} // namespace cli

#endif // ADAPTMEDSEG_CLI_ARGUMENTS_HPP
