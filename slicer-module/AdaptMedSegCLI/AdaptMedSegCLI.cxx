// AdaptMedSegCLI: a command-line module of the Slicer Execution Model. One image, its prompts, one label map.
//
// It runs in 3D Slicer, in any other host of the model, and from a shell. ITK reads and writes, the library segments,
// and this file tells one what the other says. Arguments, files and signals have headers of their own.
//
// SPDX-License-Identifier: Apache-2.0

#include "Arguments.hpp"
#include "Description.hpp"
#include "Draft.hpp"
#include "Failure.hpp"
#include "Images.hpp"
#include "Interrupt.hpp"

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <new>

#if defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#endif

using namespace cli;
using adaptmedseg::Model;
using adaptmedseg::Session;
using adaptmedseg::Space;

static const char *const help = R"(Segments one structure of a 3-D image from prompts.

Usage: AdaptMedSegCLI [arguments] inputVolume outputVolume

  inputVolume   3-D image: NRRD, NIfTI, MetaImage, any other format ITK reads, a DICOM series (folder or one file of it)
  outputVolume  label map on the image's grid; a file that is there is replaced

Prompts, at least one, in right-anterior-superior (RAS) millimetres:
  --text NAME                 name of the structure, such as liver
  --positivePoints X,Y,Z      a point in the structure; may be repeated
  --negativePoints X,Y,Z      a point outside the structure; may be repeated
  --box X,Y,Z,RX,RY,RZ        a box around it: centre and half sizes

Model:
  --model DIR|builtin         model folder (builtin)
  --adapter DIR               an adapter of the model
  --modality unknown|CT|MR    where the image comes from (unknown)
  --task NAME                 what is looked for, for the adapter's context prior

Advanced:
  --mode default|reference    reference: the original's behaviour, mistakes included (default)
  --device NAME               auto, cpu, or the name of a device (auto)
  --threads N                 threads to compute with; 0: all cores (0)
  --label N                   value of the structure in the label map, 1 to 255 (1)

For hosts:
  --xml                       describe the module
  --returnparameterfile FILE  write voxels, volumeMl and deviceUsed to a file
  --version, --help

Exit codes:
    0  done
    2  arguments or prompts that cannot be used
    3  a file whose content cannot be used
    4  a file that cannot be read or written
    5  not supported by this version
    6  too little memory
   70  a mistake in this program
  130  cancelled; no result was written
)";

/// Tells the host how far the run has come, in the elements it looks for in the output.
class Reporter {
public:
    Reporter() {
        std::cout << "<filter-start>\n<filter-name>" << name << "</filter-name>\n"
                  << "<filter-comment>Segmenting</filter-comment>\n</filter-start>\n";
        progress(0.0);
    }

    /// Says only what is news: hosts poll, and a run has many windows.
    void progress(double fraction) {
        const int percent = static_cast<int>(100.0 * fraction);
        if (percent <= percent_) return;
        percent_ = percent;
        std::cout << "<filter-progress>" << std::fixed << std::setprecision(2) << percent / 100.0
                  << "</filter-progress>\n"
                  << std::flush;
    }

    void end() {
        progress(1.0);
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started_;
        std::cout << "<filter-end>\n<filter-name>" << name << "</filter-name>\n"
                  << "<filter-time>" << std::setprecision(3) << seconds.count() << "</filter-time>\n</filter-end>\n"
                  << std::flush;
    }

private:
    static constexpr const char *name = "AdaptMedSegCLI";
    std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
    int percent_ = -1;
};

// Shares of the whole that are over when the image is read, the model is open, and the mask is there.
static constexpr double image_read = 0.05, model_open = 0.1, mask_found = 0.95;

static void check_paths(const Arguments &arguments) {
    std::error_code absent;
    if (fs::equivalent(arguments.image, arguments.label_map, absent)) {
        throw Failure(Code::usage, arguments.label_map + " is the input file and would be replaced",
                      "write to another file");
    }
}

/// Checks that a prompt could be placed. The library's hint speaks of spaces that this program does not offer.
static void check_placed(adaptmedseg::Result<void> result) {
    if (result) return;
    auto error = result.error();
    error.hint = "coordinates are right-anterior-superior millimetres, as 3D Slicer shows them";
    throw failure_of(error);
}

static void set_box(Session &session, const Box &box) {
    adaptmedseg::Vector first{}, second{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        first[axis] = box.centre[axis] - box.half_size[axis];
        second[axis] = box.centre[axis] + box.half_size[axis];
    }
    if (box.encloses_rotated) {
        std::cout << "The region is rotated: its enclosing box along the anatomical axes is used." << std::endl;
    }
    check_placed(session.set_box(first, second, Space::ras));
}

static void add_prompts(Session &session, const Arguments &arguments, const Model &model) {
    must(session.set_mode(arguments.mode));
    must(session.set_modality(arguments.modality));
    if (!arguments.adapter.empty()) {
        must(session.set_adapter(must(adaptmedseg::Adapter::open(model, arguments.adapter))));
        must(session.set_task(arguments.task));
    }
    for (const auto &point : arguments.points) {
        check_placed(session.add_point(point.ras, Space::ras, point.label));
    }
    if (arguments.box) set_box(session, *arguments.box);
    must(session.set_text(arguments.text));
}

static Labels::Pointer labels_of(const Scan &scan, const adaptmedseg::Mask &mask, std::uint8_t label) {
    const auto labels = labels_like(scan, scan.GetLargestPossibleRegion().GetSize());
    std::transform(mask.voxels.begin(), mask.voxels.end(), labels->GetBufferPointer(),
                   [label](std::uint8_t voxel) { return static_cast<std::uint8_t>(voxel * label); });
    return labels;
}

/// The simple results, in the form hosts read them.
static void write_parameters(const fs::path &path, const adaptmedseg::Mask &mask, const std::string &device) {
    std::ofstream file(path);
    file << "voxels = " << mask.count << "\nvolumeMl = " << std::setprecision(9) << mask.volume_ml
         << "\ndeviceUsed = " << device << '\n';
    file.close();
    if (!file) throw Failure(Code::io, path.filename().string() + ": cannot be written", "check the disk");
}

/// Writes the results, the label map last: where it is, all of them are. Slicer cancels by killing the process without
/// warning, so drafts live as short as possible.
static void write_results(const Arguments &arguments, const Labels &labels, const adaptmedseg::Mask &mask,
                          const std::string &device, const Interrupt &interrupt) {
    Draft draft(arguments.label_map);
    write(labels, draft.path());
    std::optional<Draft> parameters;
    if (!arguments.return_parameters.empty()) {
        write_parameters(parameters.emplace(arguments.return_parameters).path(), mask, device);
    }
    interrupt.check();
    if (parameters) parameters->commit();
    draft.commit();
}

static void segment(const Arguments &arguments, const Interrupt &interrupt) {
    check_paths(arguments);
    Reporter reporter;
    const auto scan = read_scan(arguments.image);
    rehearse(*scan, Draft(arguments.label_map).path());
    interrupt.check();
    reporter.progress(image_read);

    adaptmedseg::ModelOptions options;
    options.device = arguments.device;
    options.threads = arguments.threads;
    const auto model = must(Model::open(arguments.model, options));
    const auto image =
        must(adaptmedseg::Image::from_buffer(scan->GetBufferPointer(), geometry_of(*scan)), arguments.image);
    auto session = must(model.session(image), arguments.image);
    add_prompts(session, arguments, model);
    interrupt.check();
    reporter.progress(model_open);

    adaptmedseg::SegmentOptions run;
    run.cancel = interrupt.token();
    run.progress = [&reporter](const adaptmedseg::Progress &progress) {
        reporter.progress(model_open + (mask_found - model_open) * progress.fraction);
    };
    const auto mask = must(session.segment(run));

    write_results(arguments, *labels_of(*scan, mask, arguments.label), mask, model.device(), interrupt);
    reporter.end();
    if (const auto replaced = must(session.replaced_voxels()); replaced > 0) {
        std::cout << replaced << " voxels of the image were not finite and have been replaced." << std::endl;
    }
    std::cout << mask.count << " voxels, " << std::setprecision(3) << mask.volume_ml << " ml, on " << model.device()
              << std::endl;
}

/// Prints what hosts and people ask a module about itself; false if they ask for something else.
static bool answer(const std::vector<std::string> &words) {
    const auto asked = [&words](const char *flag) {
        return std::find(words.begin(), words.end(), flag) != words.end();
    };
    if (asked("--xml")) {
#if defined(_WIN32)
        _setmode(_fileno(stdout), _O_BINARY); // byte for byte, line ends too
#endif
        std::fwrite(description, 1, sizeof description, stdout);
    } else if (asked("--version")) {
        std::printf("AdaptMedSegCLI %s\n", adaptmedseg::version().c_str());
    } else if (words.empty() || asked("--help") || asked("-h")) {
        std::fputs(help, words.empty() ? stderr : stdout);
    } else {
        return false;
    }
    return true;
}

static int fail(const Failure &failure) {
    std::cerr << "error: " << failure.what() << '\n';
    if (!failure.hint().empty()) std::cerr << "  hint: " << failure.hint() << '\n';
    return static_cast<int>(failure.code());
}

int main(int argc, char **argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (answer(words)) return words.empty() ? static_cast<int>(Code::usage) : 0;
    itk::Object::GlobalWarningDisplayOff(); // hosts show whatever comes on stderr as an error
    try {
        const Interrupt interrupt;
        segment(parse(words), interrupt);
        return 0;
    } catch (const Failure &failure) {
        return fail(failure);
    } catch (const fs::filesystem_error &error) {
        return fail(file_failure(error.path1(), error.code()));
    } catch (const std::bad_alloc &) {
        return fail({Code::memory, "too little memory", "use a smaller image, or close other programs"});
    } catch (const std::exception &error) {
        return fail({Code::internal, error.what(), "report this message"});
    }
}
