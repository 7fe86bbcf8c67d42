// Fine-tuning through the C++17 wrapper: pairs, progress, a callback that throws, resumption, the adapter in use.
//
// adapt MODEL SCRATCH
#include "check.hpp"

#include <adaptmedseg_finetune.hpp>
#include <cmath>
#include <stdexcept>

using namespace adaptmedseg;

static const Size size{24, 22, 20};

static bool inside(std::size_t index) {
    const double x = double(index % size[0]) - 12, y = double(index / size[0] % size[1]) - 11;
    const double z = double(index / size[0] / size[1]) - 10;
    return x * x + y * y + z * z < 36;
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    const std::string out = std::string(argv[2]) + "/wrapped";
    auto model = must(Model::open(argv[1]));
    Geometry geometry;
    geometry.size = size;
    std::vector<float> voxels(geometry.voxel_count());
    std::vector<std::uint8_t> mask(geometry.voxel_count());
    for (std::size_t index = 0; index < voxels.size(); ++index) {
        mask[index] = inside(index);
        voxels[index] = float((inside(index) ? 300 : 50) + index * 7919 % 31);
    }
    auto image = must(Image::from_buffer(voxels.data(), geometry));
    auto session = must(model.session(image));
    must(session.add_point({12, 11, 10}, Space::ijk, PointLabel::positive));
    const auto base = must(session.segment()).voxels;

    auto finetune = must(FineTune::create(model));
    must_fail(finetune.add_pair(image, {}), Status::invalid_argument);
    must(finetune.add_pair(image, mask, {"ball", "", "MR", "one"}));
    FineTuneOptions options;
    options.steps = 3;
    options.rank = 2;
    options.learning_rate = 0.05;
    options.progress = [](const FineTuneProgress &progress) {
        if (progress.step == 2) throw std::runtime_error("enough");
    };
    const auto threw = must_fail(finetune.run(out, options), Status::callback_threw);
    CHECK(threw.exception != nullptr);
    must_fail(finetune.run(out, options), Status::exists);

    std::uint64_t last = 0;
    double dice = NAN;
    options.start = Start::resume;
    options.progress = [&](const FineTuneProgress &progress) {
        last = progress.step;
        if (std::isfinite(progress.validation_dice)) dice = progress.validation_dice;
    };
    auto adapter = must(finetune.run(out, options));
    CHECK(last == 3 && dice >= 0.0 && must(finetune.report()).front() == '{');
    CHECK(must(adapter.describe()).find("\"wrapped\"") != std::string::npos);

    must(session.set_adapter(adapter));
    must(session.set_task("ball"));
    CHECK(must(session.segment()).voxels != base);
    must(session.clear_adapter());
    CHECK(must(session.segment()).voxels == base);
    auto again = must(Adapter::open(model, out));
    must(session.set_adapter(again));
    std::puts("adapt: passed");
    return 0;
}
