/* A C program that adapts: pairs in memory, progress, cancellation, resumption, the adapter on a live model, and the
 * base's own mask, bit for bit, without it.
 *
 * adapt MODEL SCRATCH
 */
#include "check.h"

#include <math.h>

enum { STEPS = 4 };

typedef struct {
    uint64_t steps;
    int validations;
    ams_cancel *cancel; /* cancelled after this many steps, if given */
    uint64_t after;
} watch;

static void on_progress(const ams_finetune_progress *progress, void *user_data) {
    watch *seen = user_data;
    CHECK(progress->struct_size >= sizeof *progress);
    CHECK(progress->total == STEPS && progress->step <= STEPS && progress->step >= seen->steps);
    CHECK(progress->seconds_left >= 0.0 && (progress->step == 0 || isfinite(progress->loss)));
    CHECK(isfinite(progress->validation_loss) == (progress->validation_json != NULL));
    if (progress->validation_json != NULL) {
        CHECK(strstr(progress->validation_json, "\"dice_by_prompt\"") != NULL);
        CHECK(progress->validation_dice >= 0.0 && progress->validation_dice <= 1.0);
        ++seen->validations;
    }
    seen->steps = progress->step;
    if (seen->cancel != NULL && seen->steps == seen->after)
        ams_cancel_cancel(seen->cancel);
}

static uint8_t *ball(void) {
    uint8_t *mask = malloc(VOXELS);
    CHECK(mask != NULL);
    for (int k = 0; k < NZ; ++k)
        for (int j = 0; j < NY; ++j)
            for (int i = 0; i < NX; ++i)
                mask[i + NX * (j + NY * k)] = (uint8_t)in_ball(i, j, k);
    return mask;
}

static uint8_t *segment(ams_session *session) {
    uint8_t *mask = malloc(VOXELS);
    CHECK(mask != NULL);
    SUCCEEDS(ams_session_segment(session, NULL, NULL, NULL, &error));
    SUCCEEDS(ams_session_mask_read(session, mask, VOXELS, 1, &error));
    return mask;
}

static const char *in(const char *scratch, const char *name) {
    static char path[1024];
    CHECK(snprintf(path, sizeof path, "%s/%s", scratch, name) < (int)sizeof path);
    return path;
}

static ams_finetune_options options_of(ams_start start) {
    ams_finetune_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.method = AMS_METHOD_LORA_PRIOR;
    options.start = start;
    options.rank = 2;
    options.steps = STEPS;
    options.learning_rate = 0.02;
    options.validate_every = 2;
    options.seed = 5;
    options.name = "ball";
    options.license = "none";
    return options;
}

static void errors(const ams_model *model, const ams_image *image, const char *scratch) {
    uint8_t *mask = ball(), *empty = calloc(VOXELS, 1);
    ams_finetune *finetune = NULL;
    ams_adapter *adapter = NULL;
    char *text = NULL;
    CHECK(empty != NULL);
    FAILS(AMS_STATUS_INVALID_ARGUMENT, "model", ams_finetune_new(NULL, &finetune, &error));
    SUCCEEDS(ams_finetune_new(model, &finetune, &error));
    FAILS(AMS_STATUS_INVALID_ARGUMENT, "voxels",
          ams_finetune_add_pair(finetune, image, mask, VOXELS - 1, NULL, NULL, NULL, NULL, &error));
    FAILS(AMS_STATUS_INVALID_ARGUMENT, "empty",
          ams_finetune_add_pair(finetune, image, empty, VOXELS, NULL, NULL, NULL, NULL, &error));
    FAILS(AMS_STATUS_INVALID_ARGUMENT, "image",
          ams_finetune_add_pair(finetune, NULL, mask, VOXELS, NULL, NULL, NULL, NULL, &error));
    FAILS(AMS_STATUS_IO, "absent.json", ams_finetune_add_data(finetune, in(scratch, "absent.json"), &error));
    FAILS(AMS_STATUS_INVALID_ARGUMENT, "no training pairs",
          ams_finetune_run(finetune, in(scratch, "never"), NULL, NULL, NULL, NULL, NULL, &error));
    FAILS(AMS_STATUS_INVALID_ARGUMENT, "no run", ams_finetune_report(finetune, &text, &error));
    SUCCEEDS(ams_finetune_add_pair(finetune, image, mask, VOXELS, "ball", NULL, "MR", NULL, &error));
    ams_finetune_options options = options_of(AMS_START_NEW);
    options.method = 99;
    FAILS(AMS_STATUS_INVALID_ARGUMENT, "method",
          ams_finetune_run(finetune, in(scratch, "never"), &options, NULL, NULL, NULL, NULL, &error));
    options = options_of(AMS_START_RESUME);
    FAILS(AMS_STATUS_INVALID_ARGUMENT, "no unfinished run",
          ams_finetune_run(finetune, in(scratch, "never"), &options, NULL, NULL, NULL, NULL, &error));
    FAILS(AMS_STATUS_FORMAT, "not an adapter", ams_adapter_open(model, scratch, 0, &adapter, &error));
    FAILS(AMS_STATUS_INVALID_ARGUMENT, "model", ams_adapter_open(NULL, scratch, 0, &adapter, &error));
    CHECK(adapter == NULL && text == NULL);
    ams_finetune_free(finetune);
    ams_finetune_free(NULL);
    ams_adapter_free(NULL);
    free(mask), free(empty);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    const char *scratch = argv[2];
    ams_model *model = NULL;
    SUCCEEDS(ams_model_open(argv[1], NULL, &model, &error));
    ams_image *image = make_image();
    errors(model, image, scratch);

    ams_session *session = NULL;
    SUCCEEDS(ams_session_new(model, image, &session, &error));
    SUCCEEDS(ams_session_add_point(session, BALL, AMS_SPACE_IJK, AMS_POINT_POSITIVE, &error));
    uint8_t *base = segment(session);

    /* Cancelled after a step, then gone on with. */
    ams_finetune *finetune = NULL;
    uint8_t *mask = ball();
    ams_finetune_options options = options_of(AMS_START_NEW);
    watch seen = {0, 0, NULL, 1};
    SUCCEEDS(ams_finetune_new(model, &finetune, &error));
    SUCCEEDS(ams_finetune_add_pair(finetune, image, mask, VOXELS, "ball", NULL, "MR", "one", &error));
    SUCCEEDS(ams_cancel_new(&seen.cancel, &error));
    FAILS(AMS_STATUS_CANCELLED, NULL,
          ams_finetune_run(finetune, in(scratch, "ball"), &options, on_progress, &seen, seen.cancel, NULL, &error));
    CHECK(seen.steps == 1 && seen.validations == 1);
    FAILS(AMS_STATUS_EXISTS, "ball.partial",
          ams_finetune_run(finetune, in(scratch, "ball"), &options, NULL, NULL, NULL, NULL, &error));
    ams_cancel_free(seen.cancel);
    seen.cancel = NULL;
    ams_adapter *adapter = NULL;
    options.start = AMS_START_RESUME;
    SUCCEEDS(
        ams_finetune_run(finetune, in(scratch, "ball"), &options, on_progress, &seen, NULL, &adapter, &error));
    CHECK(seen.steps == STEPS && seen.validations == 3);
    char *text = NULL;
    SUCCEEDS(ams_finetune_report(finetune, &text, &error));
    CHECK(strstr(text, "\"best\":") != NULL && strstr(text, "\"before\":") != NULL);
    ams_string_free(text);
    text = NULL;
    SUCCEEDS(ams_adapter_describe(adapter, &text, &error));
    CHECK(strstr(text, "\"ball\"") != NULL && strstr(text, "\"lora\":") != NULL && strstr(text, "\"prior\":") != NULL);
    ams_string_free(text);
    ams_finetune_free(finetune);

    /* On the live session: another mask; without it, the base's again. */
    SUCCEEDS(ams_session_set_modality(session, AMS_MODALITY_MR, &error));
    SUCCEEDS(ams_session_set_adapter(session, adapter, &error));
    FAILS(AMS_STATUS_INVALID_ARGUMENT, "liver", ams_session_set_task(session, "liver", &error));
    SUCCEEDS(ams_session_set_task(session, "ball", &error));
    uint8_t *adapted = segment(session);
    SUCCEEDS(ams_session_set_modality_prior(session, "T2", &error));
    SUCCEEDS(ams_session_set_adapter(session, NULL, &error));
    uint8_t *again = segment(session);
    CHECK(memcmp(base, adapted, VOXELS) != 0);
    CHECK(memcmp(base, again, VOXELS) == 0);

    /* The folder gives the same adapter, merged or not; the handle may be gone before the session. */
    ams_adapter *opened = NULL;
    SUCCEEDS(ams_session_set_modality(session, AMS_MODALITY_MR, &error));
    SUCCEEDS(ams_adapter_open(model, in(scratch, "ball"), 0, &opened, &error));
    SUCCEEDS(ams_session_set_adapter(session, opened, &error));
    ams_adapter_free(opened);
    uint8_t *reopened = segment(session);
    CHECK(memcmp(adapted, reopened, VOXELS) == 0);
    SUCCEEDS(ams_adapter_open(model, in(scratch, "ball"), 1, &opened, &error));
    SUCCEEDS(ams_session_set_adapter(session, opened, &error));
    ams_adapter_free(opened);
    free(segment(session));

    /* An adapter belongs to the model it was opened for. */
    ams_model *other = NULL;
    ams_session *stranger = NULL;
    SUCCEEDS(ams_model_open(argv[1], NULL, &other, &error));
    SUCCEEDS(ams_session_new(other, image, &stranger, &error));
    FAILS(AMS_STATUS_INVALID_ARGUMENT, "another model", ams_session_set_adapter(stranger, adapter, &error));

    free(base), free(mask), free(adapted), free(again), free(reopened);
    ams_session_free(stranger), ams_session_free(session);
    ams_adapter_free(adapter);
    ams_image_free(image);
    ams_model_free(other), ams_model_free(model);
    puts("adapt: passed");
    return 0;
}
