// The C++17 wrapper: results, ownership, exceptions of callbacks, cancellation, two threads, undo.
//
// wrapper MODEL SCRATCH [--no-run]
#include "check.hpp"

#include <atomic>
#include <cmath>
#include <stdexcept>
#include <thread>

using namespace adaptmedseg;

static Geometry geometry() {
    Geometry geometry;
    geometry.size = {40, 36, 32};
    geometry.spacing = {1.0, 1.5, 2.0};
    geometry.origin = {-12.0, 7.5, 100.0};
    return geometry;
}

template <typename T>
static std::vector<T> voxels() {
    const auto [nx, ny, nz] = geometry().size;
    std::vector<T> values(nx * ny * nz);
    for (std::size_t index = 0; index < values.size(); ++index) {
        const double x = double(index % nx) - 18, y = double(index / nx % ny) - 16, z = double(index / nx / ny) - 14;
        values[index] = static_cast<T>((x * x + y * y + z * z < 36 ? 100 : 10) + int(index * 7919 % 11));
    }
    return values;
}

/// All number types give the same image: the same prompts on it the same mask.
template <typename T>
static std::vector<std::uint8_t> mask_of(const Model &model) {
    auto session = must(model.session(must(Image::from_buffer(voxels<T>().data(), geometry()))));
    must(session.set_box({10, 8, 6}, {26, 24, 22}, Space::ijk));
    return must(session.segment()).voxels;
}

static void scalars(const Model &model) {
    const auto expected = mask_of<float>(model);
    CHECK(mask_of<std::uint8_t>(model) == expected && mask_of<std::int8_t>(model) == expected);
    CHECK(mask_of<std::uint16_t>(model) == expected && mask_of<std::int16_t>(model) == expected);
    CHECK(mask_of<std::uint32_t>(model) == expected && mask_of<std::int32_t>(model) == expected);
    CHECK(mask_of<std::uint64_t>(model) == expected && mask_of<std::int64_t>(model) == expected);
    CHECK(mask_of<double>(model) == expected && mask_of<long long>(model) == expected);
}

static void errors(const Model &model, const Image &image, const std::string &scratch) {
    must_fail(Model::open(scratch + "/no model here"), Status::io);
    must_fail(Image::read(scratch + "/absent.nii"), Status::io);
    must_fail(Image::read(scratch + "/unknown.ending"), Status::unsupported);
    auto flat = geometry();
    flat.spacing[1] = 0.0;
    const auto spacing = must_fail(Image::from_buffer(voxels<float>().data(), flat), Status::invalid_argument);
    CHECK(spacing.message.find("spacing") != std::string::npos);
    auto singular = geometry();
    singular.direction[4] = 0.0;
    must_fail(Image::from_buffer(voxels<float>().data(), singular), Status::invalid_argument);

    auto session = must(model.session(image));
    must_fail(session.segment(), Status::invalid_argument);
    must_fail(session.mask(), Status::no_mask);
    must_fail(session.report(), Status::no_mask);
    must_fail(session.probabilities(), Status::no_mask);
    must_fail(session.write_mask(scratch + "/never.nii"), Status::no_mask);
    const auto outside = must_fail(session.add_point({500, 500, 500}, Space::ijk, PointLabel::positive),
                                   Status::invalid_argument);
    CHECK(outside.message == "point (500, 500, 500) lies outside the image (40 x 36 x 32 voxels)");
    CHECK(!outside.hint.empty());
    must_fail(session.set_box({9, 9, 9}, {2, 12, 12}, Space::ijk), Status::invalid_argument);
    must_fail(session.set_box_from_mask({1, 0, 1}), Status::invalid_argument);
    CHECK(!must(session.undo()) && !must(session.redo()) && !must(session.can_undo()) && !must(session.can_redo()));
    CHECK(must(session.replaced_voxels()) == 0 && must(session.estimate_memory()).total > 0);
}

static void interruptions(const Model &model, const Image &image) {
    auto session = must(model.session(image));
    must(session.set_box({10, 8, 6}, {26, 24, 22}, Space::ijk));

    // From the callback.
    SegmentOptions options;
    options.cancel = must(CancelToken::create());
    options.progress = [&](const Progress &progress) {
        CHECK(!progress.stage_name.empty());
        must_fail(session.can_undo(), Status::busy);
        options.cancel->cancel();
    };
    must_fail(session.segment(options), Status::cancelled);
    CHECK(options.cancel->is_cancelled());

    // From another thread, which waits for the run to begin.
    SegmentOptions slow;
    slow.cancel = must(CancelToken::create());
    std::atomic<bool> begun{false};
    std::thread other([&] {
        while (!begun) std::this_thread::yield();
        must_fail(session.clear_prompts(), Status::busy);
        slow.cancel->cancel();
    });
    slow.progress = [&](const Progress &) {
        begun = true;
        while (!slow.cancel->is_cancelled()) std::this_thread::yield();
    };
    must_fail(session.segment(slow), Status::cancelled);
    other.join();

    // By an exception, which arrives here and not in the library.
    int calls = 0;
    SegmentOptions throwing;
    throwing.progress = [&](const Progress &) {
        ++calls;
        throw std::runtime_error("enough");
    };
    const auto error = must_fail(session.segment(throwing), Status::callback_threw);
    CHECK(calls == 1);
    try {
        std::rethrow_exception(error.exception);
    } catch (const std::runtime_error &caught) {
        CHECK(std::string(caught.what()) == "enough");
    }

    must_fail(session.mask(), Status::no_mask);
    CHECK(!must(session.can_undo()));
}

static void steps(Session session, const std::string &scratch) {
    int calls = 0;
    SegmentOptions options;
    options.progress = [&](const Progress &) { ++calls; };
    must(session.set_box({10, 8, 6}, {26, 24, 22}, Space::ijk));
    const Mask first = must(session.segment(options));
    CHECK(calls > 1 && first.voxels.size() == geometry().voxel_count());
    CHECK(std::abs(first.volume_ml - double(first.count) * 3.0 / 1000.0) < 1e-9);
    must(session.add_point({30, 30, 28}, Space::ijk, PointLabel::negative));
    const Mask second = must(session.segment());
    CHECK(must(session.undo()) && must(session.mask()).voxels == first.voxels);
    CHECK(must(session.redo()) && must(session.mask()).voxels == second.voxels);

    const std::string path = scratch + "/wrapper.mha";
    std::remove(path.c_str());
    must(session.write_mask(path));
    must_fail(session.write_mask(path), Status::exists);
    must(session.write_mask(path, true));
    const auto written = must(must(Image::read(path)).geometry());
    CHECK(written.size == geometry().size && written.spacing == geometry().spacing);
    CHECK(written.origin == geometry().origin && written.direction == geometry().direction);

    // Sessions move, also between threads.
    Session moved = std::move(session);
    std::thread([&] { CHECK(must(moved.mask()).voxels == second.voxels); }).join();
    CHECK(must(moved.report()).front() == '{');
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    const std::string scratch = argv[2];
    const bool run = argc < 4 || std::string(argv[3]) != "--no-run";
    CHECK(is_compatible() && !version().empty());

    int messages = 0;
    ModelOptions options;
    options.threads = 2;
    options.log_level = LogLevel::info;
    options.log = [&](LogLevel, const std::string &message) { messages += message.empty() ? 0 : 1; };
    auto model = std::make_unique<Model>(must(Model::open(argv[1], options)));
    CHECK(messages >= 1);
    CHECK(!model->name().empty() && model->device() == "cpu" && must(model->describe()).front() == '{');
    auto image = std::make_unique<Image>(must(Image::from_buffer(voxels<float>().data(), geometry())));
    const auto grid = must(image->geometry());
    CHECK(grid.size == geometry().size && grid.spacing == geometry().spacing && grid.origin == geometry().origin);

    errors(*model, *image, scratch);
    interruptions(*model, *image);
    if (run) {
        scalars(*model);
        auto session = must(model->session(*image));
        // The session holds what it needs.
        model.reset();
        image.reset();
        steps(std::move(session), scratch);
    }
    std::puts("wrapper: passed");
    return 0;
}
