// AdaptMedSeg for C++17: fine-tuning. Like adaptmedseg.hpp, which it needs: header-only, nothing throws.
//
//     auto finetune = adaptmedseg::FineTune::create(*model);
//     finetune->add_pair(*image, corrected_mask, {"prostate", {}, "MR"});
//     auto adapter  = finetune->run("adapters/prostate");
//     session->set_adapter(*adapter);
//
// SPDX-License-Identifier: Apache-2.0

#ifndef ADAPTMEDSEG_FINETUNE_HPP
#define ADAPTMEDSEG_FINETUNE_HPP

#include "adaptmedseg.hpp"

namespace adaptmedseg {

/// What learns.
enum class Method : ams_method {
    lora = AMS_METHOD_LORA,
    prior = AMS_METHOD_PRIOR,
    lora_prior = AMS_METHOD_LORA_PRIOR,
};

/// Kind of context prior.
enum class PriorVariant : ams_prior_variant { hermes = AMS_PRIOR_HERMES, additive = AMS_PRIOR_ADDITIVE };

/// What is minimised.
enum class Loss : ams_loss {
    segvol = AMS_LOSS_SEGVOL,
    adaptive_dice = AMS_LOSS_ADAPTIVE_DICE,
    volume = AMS_LOSS_VOLUME
};

/// How a run begins.
enum class Start : ams_start { fresh = AMS_START_NEW, overwrite = AMS_START_OVERWRITE, resume = AMS_START_RESUME };

/// What is said of a pair. Empty stands for nothing said; without a task it is the label.
struct PairInfo {
    /// Name of the structure in text prompts.
    std::string label = {};
    /// Task of context priors.
    std::string task = {};
    /// Modality of context priors, such as "MR".
    std::string modality = {};
    /// Who was scanned: one subject is never on both sides of a split.
    std::string subject = {};
};

/// How far a run has come.
struct FineTuneProgress {
    std::uint64_t step = 0;
    std::uint64_t total = 0;
    /// Loss of the last step; not a number before the first.
    double loss = 0.0;
    double seconds_left = 0.0;
    /// Loss and Dice on what is held out, if they have just been measured; else not a number.
    double validation_loss = 0.0;
    double validation_dice = 0.0;
};

/// How a run is to go. Every field has a default, so name those you want; 0 is the library's own.
struct FineTuneOptions {
    Method method = Method::lora;
    PriorVariant prior_variant = PriorVariant::hermes;
    Loss loss = Loss::segvol;
    Start start = Start::fresh;
    std::uint32_t rank = 0;
    double alpha = 0.0;
    std::uint32_t accumulation = 0;
    double learning_rate = 0.0;
    std::uint64_t steps = 0;
    std::uint64_t validate_every = 0;
    std::uint64_t patience = 0;
    std::uint64_t seed = 0;
    /// Keep all activations of the image encoder: faster, for more memory.
    bool no_checkpointing = false;
    /// Correct the decoder's MLPs and its token-to-image attention too.
    bool all_decoder_layers = false;
    /// Correct no layer of the image encoder: windows are then encoded once and kept, and steps are fast.
    bool freeze_encoder = false;
    /// An adapter folder to learn further, instead of a new adapter.
    std::string from = {};
    std::string name = {};
    std::string license = {};
    /// Called on the calling thread. If it throws, the run is cancelled, keeps a state to resume from, and fails with
    /// `Status::callback_threw`; the exception never enters the library.
    std::function<void(const FineTuneProgress &)> progress = {};
    /// Stops the run when cancelled.
    std::optional<CancelToken> cancel = {};
};

/// A run that lets a model learn from pairs of image and mask. One thread at a time.
class FineTune {
public:
    [[nodiscard]] static Result<FineTune> create(const Model &model) {
        auto handle = detail::fetch<ams_finetune *>(
            [&](auto out, auto error) { return ams_finetune_new(model.get(), out, error); });
        return handle ? Result<FineTune>(FineTune(*handle, model.log_)) : Result<FineTune>(handle.error());
    }

    /// Adds an image and one structure in it: one byte per voxel, i fastest, other than 0 in the structure.
    [[nodiscard]] Result<void> add_pair(const Image &image, const std::vector<std::uint8_t> &mask,
                                        const PairInfo &info = {}) {
        const auto text = [](const std::string &text) { return text.empty() ? nullptr : text.c_str(); };
        detail::Catch error;
        return error.result(ams_finetune_add_pair(get(), image.get(), mask.data(), mask.size(), text(info.label),
                                                  text(info.task), text(info.modality), text(info.subject), error));
    }

    /// Adds the pairs of a list, or of a folder with a pairs.json.
    [[nodiscard]] Result<void> add_data(const std::string &path) {
        detail::Catch error;
        return error.result(ams_finetune_add_data(get(), path.c_str(), error));
    }

    /// Trains, writes the adapter to the folder `path`, and opens it.
    [[nodiscard]] Result<Adapter> run(const std::string &path, const FineTuneOptions &options = {}) {
        ams_finetune_options raw{};
        raw.struct_size = sizeof raw;
        raw.method = static_cast<ams_method>(options.method);
        raw.prior_variant = static_cast<ams_prior_variant>(options.prior_variant);
        raw.loss = static_cast<ams_loss>(options.loss);
        raw.start = static_cast<ams_start>(options.start);
        raw.rank = options.rank;
        raw.alpha = options.alpha;
        raw.accumulation = options.accumulation;
        raw.learning_rate = options.learning_rate;
        raw.steps = options.steps;
        raw.validate_every = options.validate_every;
        raw.patience = options.patience;
        raw.seed = options.seed;
        raw.no_checkpointing = options.no_checkpointing ? 1 : 0;
        raw.all_decoder_layers = options.all_decoder_layers ? 1 : 0;
        raw.freeze_encoder = options.freeze_encoder ? 1 : 0;
        raw.from = options.from.empty() ? nullptr : options.from.c_str();
        raw.name = options.name.empty() ? nullptr : options.name.c_str();
        raw.license = options.license.empty() ? nullptr : options.license.c_str();
        std::optional<CancelToken> cancel = options.cancel;
        if (!cancel && options.progress) {
            auto own = CancelToken::create();
            if (!own) return own.error();
            cancel = *own;
        }
        Relay relay{options.progress, cancel, nullptr};
        ams_adapter *adapter = nullptr;
        detail::Catch error;
        const ams_status status =
            ams_finetune_run(get(), path.c_str(), &raw, options.progress ? &Relay::call : nullptr, &relay,
                             cancel ? cancel->get() : nullptr, &adapter, error);
        if (relay.thrown) {
            ams_adapter_free(adapter);
            return Error{Status::callback_threw, "the progress callback threw an exception", "", relay.thrown};
        }
        if (status != AMS_STATUS_OK) return error.take(status);
        return Adapter(adapter);
    }

    /// How the last run went, as JSON.
    [[nodiscard]] Result<std::string> report() const {
        return detail::fetch_text([&](auto out, auto error) { return ams_finetune_report(get(), out, error); });
    }

    [[nodiscard]] ams_finetune *get() const noexcept { return handle_.get(); }

private:
    /// Stands between the library and a callback that may throw.
    struct Relay {
        const std::function<void(const FineTuneProgress &)> &progress;
        const std::optional<CancelToken> &cancel;
        std::exception_ptr thrown;

        static void call(const ams_finetune_progress *seen, void *user_data) noexcept {
            auto &relay = *static_cast<Relay *>(user_data);
            if (relay.thrown) return;
            try {
                relay.progress({seen->step, seen->total, seen->loss, seen->seconds_left, seen->validation_loss,
                                seen->validation_dice});
            } catch (...) {
                relay.thrown = std::current_exception();
                relay.cancel->cancel();
            }
        }
    };

    FineTune(ams_finetune *handle, std::shared_ptr<void> log) : log_(std::move(log)), handle_(handle) {}
    /// The model's, which may be gone before the run.
    std::shared_ptr<void> log_;
    detail::Handle<ams_finetune, ams_finetune_free> handle_;
};

} // namespace adaptmedseg

#endif // ADAPTMEDSEG_FINETUNE_HPP
