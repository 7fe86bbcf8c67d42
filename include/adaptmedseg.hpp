// AdaptMedSeg for C++17: owners for the handles of adaptmedseg.h. Header-only; no algorithm, no state of its own.
//
// Nothing here throws: what can fail returns a Result, which holds a value or an Error. (Running out of memory for a
// buffer of the caller's size is the exception: std::vector and std::string throw std::bad_alloc as always.)
//
//     auto model   = adaptmedseg::Model::open("path/to/model");
//     if (!model) return report(model.error());
//     auto session = model->session(*image);
//     session->add_point({24.0, 50.0, 60.0}, Space::ras, PointLabel::positive);
//     auto mask    = session->segment();
//
// SPDX-License-Identifier: Apache-2.0

#ifndef ADAPTMEDSEG_HPP
#define ADAPTMEDSEG_HPP

#include "adaptmedseg_result.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace adaptmedseg {

/// Space of a coordinate: voxel index (i fastest), or millimetres towards left-posterior-superior (ITK, DICOM) or
/// right-anterior-superior (NIfTI, 3D Slicer).
enum class Space : ams_space { ijk = AMS_SPACE_IJK, lps = AMS_SPACE_LPS, ras = AMS_SPACE_RAS };

/// Where a scan comes from.
enum class Modality : ams_modality { unknown = AMS_MODALITY_UNKNOWN, ct = AMS_MODALITY_CT, mr = AMS_MODALITY_MR };

/// How a volume is segmented.
enum class Mode : ams_mode { standard = AMS_MODE_DEFAULT, reference = AMS_MODE_REFERENCE };

/// The number format in which a model multiplies.
enum class Precision : ams_precision { f32 = AMS_PRECISION_F32, bf16 = AMS_PRECISION_BF16, f16 = AMS_PRECISION_F16 };

/// What a point says.
enum class PointLabel : ams_point_label { negative = AMS_POINT_NEGATIVE, positive = AMS_POINT_POSITIVE };

/// How much a message of the library matters.
enum class LogLevel : ams_log_level {
    off = AMS_LOG_OFF,
    error = AMS_LOG_ERROR,
    warning = AMS_LOG_WARNING,
    info = AMS_LOG_INFO,
    debug = AMS_LOG_DEBUG,
};

/// Three coordinates.
using Vector = std::array<double, 3>;
/// Three counts of voxels, along i, j, k.
using Size = std::array<std::size_t, 3>;

/// Version of the library, such as "0.1.0".
[[nodiscard]] inline std::string version() { return ams_version(); }

/// Whether the library is one that this header was made for.
[[nodiscard]] inline bool is_compatible() noexcept { return ams_abi_version() == AMS_ABI_VERSION; }

/// Stops long calls, from any thread. Copies are the same token. Once cancelled it stays so.
class CancelToken {
public:
    [[nodiscard]] static Result<CancelToken> create() {
        auto token = detail::fetch<ams_cancel *>([](auto out, auto error) { return ams_cancel_new(out, error); });
        return token ? Result<CancelToken>(CancelToken(*token)) : Result<CancelToken>(token.error());
    }

    void cancel() const noexcept { ams_cancel_cancel(handle_.get()); }
    [[nodiscard]] bool is_cancelled() const noexcept { return ams_cancel_is_cancelled(handle_.get()); }
    [[nodiscard]] const ams_cancel *get() const noexcept { return handle_.get(); }

private:
    explicit CancelToken(ams_cancel *handle) : handle_(handle, ams_cancel_free) {}
    std::shared_ptr<ams_cancel> handle_;
};

/// Where voxels lie. Axes i, j, k, i fastest; the world is LPS in millimetres, as in ITK.
struct Geometry {
    Size size{};
    Vector spacing{1.0, 1.0, 1.0};
    Vector origin{};
    /// Row by row: column c is the unit LPS vector along axis c.
    std::array<double, 9> direction{1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0};

    [[nodiscard]] std::size_t voxel_count() const noexcept { return size[0] * size[1] * size[2]; }
};

/// Voxels and where they lie. Any number of threads may use it.
class Image {
public:
    /// Copies voxels of any number type. `strides` are bytes along i, j, k; all zeros stand for packed, i fastest.
    template <typename T>
    [[nodiscard]] static Result<Image> from_buffer(const T *voxels, const Geometry &geometry,
                                                   std::array<std::ptrdiff_t, 3> strides = {}) {
        ams_image_desc desc{};
        desc.struct_size = sizeof desc;
        desc.data = voxels;
        desc.scalar_type = detail::scalar_type<T>();
        for (std::size_t axis = 0; axis < 3; ++axis) {
            desc.size[axis] = geometry.size[axis];
            desc.strides[axis] = strides[axis];
            desc.spacing[axis] = geometry.spacing[axis];
            desc.origin[axis] = geometry.origin[axis];
        }
        for (std::size_t index = 0; index < 9; ++index) {
            desc.direction[index] = geometry.direction[index];
        }
        return adopt([&](auto out, auto error) { return ams_image_from_buffer(&desc, out, error); });
    }

    /// Reads a file. `channel` is for files with several values per voxel, or several volumes.
    [[nodiscard]] static Result<Image> read(const std::string &path, std::optional<std::int32_t> channel = {}) {
        return adopt(
            [&](auto out, auto error) { return ams_image_read(path.c_str(), channel.value_or(-1), out, error); });
    }

    [[nodiscard]] Result<Geometry> geometry() const {
        return detail::fetch<Geometry>([this](Geometry *out, ams_error **error) {
            ams_status status = ams_image_size(get(), out->size.data(), error);
            if (status == AMS_STATUS_OK) status = ams_image_spacing(get(), out->spacing.data(), error);
            if (status == AMS_STATUS_OK) status = ams_image_origin(get(), out->origin.data(), error);
            if (status == AMS_STATUS_OK) status = ams_image_direction(get(), out->direction.data(), error);
            return status;
        });
    }

    [[nodiscard]] const ams_image *get() const noexcept { return handle_.get(); }

private:
    template <typename Make>
    static Result<Image> adopt(Make make) {
        auto handle = detail::fetch<ams_image *>(make);
        return handle ? Result<Image>(Image(*handle)) : Result<Image>(handle.error());
    }

    explicit Image(ams_image *handle) : handle_(handle) {}
    detail::Handle<ams_image, ams_image_free> handle_;
};

/// How far a run has come.
struct Progress {
    ams_stage stage = 0;
    std::string stage_name;
    std::uint64_t done = 0;
    std::uint64_t total = 0;
    /// Share of the whole run, from 0 to 1.
    double fraction = 0.0;
};

/// What a run may be given. Every field has a default, so name those you want.
struct SegmentOptions {
    /// Names the structure, as `Session::set_text` does, before the run. It stays set.
    std::optional<std::string> text = {};
    /// Called on the calling thread. If it throws, the run is cancelled (through `cancel`, if there is one, which then
    /// stays cancelled) and fails with `Status::callback_threw`; the exception never enters the library.
    std::function<void(const Progress &)> progress = {};
    /// Stops the run when cancelled.
    std::optional<CancelToken> cancel = {};
};

/// A mask on exactly the image's grid.
struct Mask {
    /// One byte per voxel, i fastest: 1 in the structure, 0 elsewhere.
    std::vector<std::uint8_t> voxels;
    /// Number of voxels in the structure.
    std::uint64_t count = 0;
    double volume_ml = 0.0;
};

class Model;

/// What a model has learned beside its weights. Any number of sessions of that model may use it.
class Adapter {
public:
    /// Opens an adapter folder for a model. `merge`: add its corrections to copies of the weights, for speed.
    [[nodiscard]] static Result<Adapter> open(const Model &model, const std::string &path, bool merge = false);

    /// All there is to know, as JSON.
    [[nodiscard]] Result<std::string> describe() const {
        return detail::fetch_text([&](auto out, auto error) { return ams_adapter_describe(get(), out, error); });
    }

    [[nodiscard]] const ams_adapter *get() const noexcept { return handle_.get(); }

private:
    friend class FineTune;

    explicit Adapter(ams_adapter *handle) : handle_(handle) {}
    detail::Handle<ams_adapter, ams_adapter_free> handle_;
};

/// A model looking at one image. One thread at a time; it may move between threads.
class Session {
public:
    [[nodiscard]] Result<void> set_mode(Mode mode) {
        return run([&](auto error) { return ams_session_set_mode(get(), static_cast<ams_mode>(mode), error); });
    }
    [[nodiscard]] Result<void> set_modality(Modality modality) {
        return run(
            [&](auto error) { return ams_session_set_modality(get(), static_cast<ams_modality>(modality), error); });
    }
    /// Uses an adapter in the runs to come.
    [[nodiscard]] Result<void> set_adapter(const Adapter &adapter) {
        return run([&](auto error) { return ams_session_set_adapter(get(), adapter.get(), error); });
    }
    /// Uses no adapter: results are the model's own, bit for bit.
    [[nodiscard]] Result<void> clear_adapter() {
        return run([&](auto error) { return ams_session_set_adapter(get(), nullptr, error); });
    }
    /// What is looked for, for the context prior of an adapter; nothing: unknown.
    [[nodiscard]] Result<void> set_task(const std::optional<std::string> &task) {
        return run([&](auto error) { return ams_session_set_task(get(), task ? task->c_str() : nullptr, error); });
    }
    /// Which modality's tokens that prior takes, where `set_modality` is too coarse; nothing: unknown.
    [[nodiscard]] Result<void> set_modality_prior(const std::optional<std::string> &modality) {
        return run([&](auto error) {
            return ams_session_set_modality_prior(get(), modality ? modality->c_str() : nullptr, error);
        });
    }
    /// Names the structure; nothing takes the name back.
    [[nodiscard]] Result<void> set_text(const std::optional<std::string> &text) {
        return run([&](auto error) { return ams_session_set_text(get(), text ? text->c_str() : nullptr, error); });
    }
    [[nodiscard]] Result<void> add_point(const Vector &position, Space space, PointLabel label) {
        return run([&](auto error) {
            return ams_session_add_point(get(), position.data(), static_cast<ams_space>(space),
                                         static_cast<ams_point_label>(label), error);
        });
    }
    [[nodiscard]] Result<void> clear_points() {
        return run([&](auto error) { return ams_session_clear_points(get(), error); });
    }
    /// In `Space::ijk` the lower and the upper corner, in millimetres any two opposite ones.
    [[nodiscard]] Result<void> set_box(const Vector &first, const Vector &second, Space space) {
        return run([&](auto error) {
            return ams_session_set_box(get(), first.data(), second.data(), static_cast<ams_space>(space), error);
        });
    }
    /// The box of a mask on the image's grid.
    [[nodiscard]] Result<void> set_box_from_mask(const std::vector<std::uint8_t> &mask) {
        return run([&](auto error) { return ams_session_set_box_from_mask(get(), mask.data(), mask.size(), error); });
    }
    [[nodiscard]] Result<void> clear_box() {
        return run([&](auto error) { return ams_session_clear_box(get(), error); });
    }
    [[nodiscard]] Result<void> clear_prompts() {
        return run([&](auto error) { return ams_session_clear_prompts(get(), error); });
    }

    /// Segments with the prompts there are. A run that fails or is cancelled leaves the mask and the undo as they were.
    [[nodiscard]] Result<Mask> segment(const SegmentOptions &options = {}) {
        if (options.text) {
            if (auto set = set_text(options.text); !set) return set.error();
        }
        std::optional<CancelToken> cancel = options.cancel;
        if (!cancel && options.progress) {
            auto own = CancelToken::create();
            if (!own) return own.error();
            cancel = *own;
        }
        Relay relay{options.progress, cancel, nullptr};
        detail::Catch error;
        const ams_status status =
            ams_session_segment(get(), options.progress ? &Relay::call : nullptr, &relay,
                                cancel ? cancel->get() : nullptr, error);
        if (relay.thrown) {
            return Error{Status::callback_threw, "the progress callback threw an exception", "", relay.thrown};
        }
        if (status != AMS_STATUS_OK) return error.take(status);
        return mask();
    }

    /// The current mask.
    [[nodiscard]] Result<Mask> mask() const {
        Mask mask;
        detail::Catch error;
        ams_status status = ams_session_mask_voxels(get(), &mask.count, error);
        if (status == AMS_STATUS_OK) status = ams_session_mask_volume_ml(get(), &mask.volume_ml, error);
        if (status == AMS_STATUS_OK) {
            mask.voxels.resize(voxel_count_);
            status = ams_session_mask_read(get(), mask.voxels.data(), mask.voxels.size(), 1, error);
        }
        if (status != AMS_STATUS_OK) return error.take(status);
        return mask;
    }

    /// Probabilities behind the current mask, on the image's grid. Not after undo or redo.
    [[nodiscard]] Result<std::vector<float>> probabilities() const {
        std::vector<float> values(voxel_count_);
        detail::Catch error;
        const ams_status status = ams_session_probabilities(get(), values.data(), values.size(), error);
        if (status != AMS_STATUS_OK) return error.take(status);
        return values;
    }

    /// Writes the current mask to a file. A file that is there is left alone unless `overwrite`.
    [[nodiscard]] Result<void> write_mask(const std::string &path, bool overwrite = false) const {
        return run([&](auto error) { return ams_session_mask_write(get(), path.c_str(), overwrite ? 1 : 0, error); });
    }

    /// How the current mask came about, as JSON.
    [[nodiscard]] Result<std::string> report() const {
        return detail::fetch_text([&](auto out, auto error) { return ams_session_report(get(), out, error); });
    }

    /// Goes back to the state after the run before; false if there is none.
    [[nodiscard]] Result<bool> undo() {
        return detail::fetch<bool>([&](auto out, auto error) { return ams_session_undo(get(), out, error); });
    }
    /// Takes back an undo; false if there is none.
    [[nodiscard]] Result<bool> redo() {
        return detail::fetch<bool>([&](auto out, auto error) { return ams_session_redo(get(), out, error); });
    }
    [[nodiscard]] Result<bool> can_undo() const {
        return detail::fetch<bool>([&](auto out, auto error) { return ams_session_can_undo(get(), out, error); });
    }
    [[nodiscard]] Result<bool> can_redo() const {
        return detail::fetch<bool>([&](auto out, auto error) { return ams_session_can_redo(get(), out, error); });
    }

    /// Bytes a run will need.
    [[nodiscard]] Result<ams_memory_estimate> estimate_memory() const {
        return detail::fetch<ams_memory_estimate>([&](ams_memory_estimate *out, ams_error **error) {
            out->struct_size = sizeof *out;
            return ams_session_estimate_memory(get(), out, error);
        });
    }

    /// Voxels of the image that were not finite and have been replaced.
    [[nodiscard]] Result<std::uint64_t> replaced_voxels() const {
        return detail::fetch<std::uint64_t>(
            [&](auto out, auto error) { return ams_session_replaced_voxels(get(), out, error); });
    }

    [[nodiscard]] ams_session *get() const noexcept { return handle_.get(); }

private:
    friend class Model;

    /// Stands between the library and a callback that may throw.
    struct Relay {
        const std::function<void(const Progress &)> &progress;
        const std::optional<CancelToken> &cancel;
        std::exception_ptr thrown;

        static void call(const ams_progress *progress, void *user_data) noexcept {
            auto &relay = *static_cast<Relay *>(user_data);
            if (relay.thrown) return;
            try {
                relay.progress(
                    {progress->stage, progress->stage_name, progress->done, progress->total, progress->fraction});
            } catch (...) {
                relay.thrown = std::current_exception();
                relay.cancel->cancel();
            }
        }
    };

    template <typename Call>
    static Result<void> run(Call call) {
        detail::Catch error;
        const ams_status status = call(static_cast<ams_error **>(error));
        return error.result(status);
    }

    Session(ams_session *handle, std::size_t voxel_count, std::shared_ptr<void> log)
        : log_(std::move(log)), handle_(handle), voxel_count_(voxel_count) {}
    /// The model's, which may be gone before the session.
    std::shared_ptr<void> log_;
    detail::Handle<ams_session, ams_session_free> handle_;
    std::size_t voxel_count_ = 0;
};

/// How to open a model. Every field has a default, so name those you want.
struct ModelOptions {
    /// Name of a device; empty lets the library choose.
    std::string device = {};
    /// Threads to compute with; 0 takes all cores.
    std::uint32_t threads = 0;
    /// Messages wanted: up to this level.
    LogLevel log_level = LogLevel::off;
    /// Receives the messages of the model and its sessions, on the thread that makes the call. What it throws is lost.
    std::function<void(LogLevel, const std::string &)> log = {};
    /// Arithmetic of the large products.
    Precision precision = Precision::f32;
    /// The plugin that has the device, a file or the folder it lies in; empty: where plugins are looked for.
    std::string plugin = {};
};

/// A network with its weights, on a device. Any number of threads may use it.
class Model {
public:
    /// Opens a model folder, or the library's own model by the name "builtin".
    [[nodiscard]] static Result<Model> open(const std::string &path, ModelOptions options = {}) {
        auto log = std::make_shared<Log>(std::move(options.log));
        ams_model_options raw{};
        raw.struct_size = sizeof raw;
        raw.device = options.device.empty() ? nullptr : options.device.c_str();
        raw.threads = options.threads;
        raw.log_level = static_cast<ams_log_level>(options.log_level);
        raw.log_callback = *log ? &call_log : nullptr;
        raw.log_user_data = log.get();
        raw.precision = static_cast<ams_precision>(options.precision);
        raw.plugin = options.plugin.empty() ? nullptr : options.plugin.c_str();
        auto handle = detail::fetch<ams_model *>(
            [&](auto out, auto error) { return ams_model_open(path.c_str(), &raw, out, error); });
        return handle ? Result<Model>(Model(*handle, std::move(log))) : Result<Model>(handle.error());
    }

    /// Lets the model look at an image.
    [[nodiscard]] Result<Session> session(const Image &image) const {
        auto geometry = image.geometry();
        if (!geometry) return geometry.error();
        auto handle = detail::fetch<ams_session *>(
            [&](auto out, auto error) { return ams_session_new(get(), image.get(), out, error); });
        if (!handle) return handle.error();
        return Session(*handle, geometry->voxel_count(), log_);
    }

    [[nodiscard]] std::string name() const { return text(ams_model_name(get())); }
    [[nodiscard]] std::string license() const { return text(ams_model_license(get())); }
    [[nodiscard]] std::string device() const { return text(ams_model_device(get())); }
    [[nodiscard]] bool supports_text() const noexcept { return ams_model_supports_text(get()); }

    /// All there is to know, as JSON.
    [[nodiscard]] Result<std::string> describe() const {
        return detail::fetch_text([&](auto out, auto error) { return ams_model_describe(get(), out, error); });
    }

    [[nodiscard]] const ams_model *get() const noexcept { return handle_.get(); }

private:
    friend class FineTune;

    using Log = std::function<void(LogLevel, const std::string &)>;

    static void call_log(ams_log_level level, const char *message, void *user_data) noexcept {
        try {
            (*static_cast<Log *>(user_data))(static_cast<LogLevel>(level), message);
        } catch (...) {
            // It must not enter the library, and a message is not worth a failure.
        }
    }

    static std::string text(const char *string) { return string == nullptr ? std::string() : std::string(string); }

    Model(ams_model *handle, std::shared_ptr<Log> log) : log_(std::move(log)), handle_(handle) {}
    std::shared_ptr<Log> log_;
    detail::Handle<ams_model, ams_model_free> handle_;
};

inline Result<Adapter> Adapter::open(const Model &model, const std::string &path, bool merge) {
    auto handle = detail::fetch<ams_adapter *>([&](auto out, auto error) {
        return ams_adapter_open(model.get(), path.c_str(), merge ? 1 : 0, out, error);
    });
    return handle ? Result<Adapter>(Adapter(*handle)) : Result<Adapter>(handle.error());
}

} // namespace adaptmedseg

#endif // ADAPTMEDSEG_HPP
